"""Running a compiled library: its functions, parameters and KV cache behind numpy arrays.

`Engine` holds the weights of one converted directory once, in the layout the library wants, and a
paged KV cache for a few sequences.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.runtime.vm import VirtualMachine

from olmo.errors import OlmoError
from olmo.tensor_cache import MANIFEST
from olmo.tensor_cache_reader import read_tensor_cache

PAGE_SIZE = 16  # tokens; the attention kernels are compiled for it

_MISMATCH = "use the library and the weights of one model and quantization"


class Engine:
    """A library with the weights of a converted directory, on this machine's CPU.

    `max_sequences` is the number of sequences that can be live at once; each may grow to the
    library's context window. Logits are numpy float32 arrays. Not safe for use by several threads.

    Raises:
        OlmoError: the library cannot be loaded, has no metadata, or was compiled with a sliding
            window; the directory's tensors are not those the library was compiled for (names the
            tensor and both files).
    """

    def __init__(self, model_dir: Path, library: Path, max_sequences: int = 1) -> None:
        _use_all_processors()
        self._device = tvm.cpu()
        self._vm = _open_library(library, self._device)
        self.metadata: Mapping[str, Any] = json.loads(str(self._vm["_metadata"]()))
        if self.metadata["sliding_window_size"] != -1:
            raise OlmoError(
                f"{library}: was compiled with sliding_window_size "
                f"{self.metadata['sliding_window_size']}, which this runtime does not run"
            )
        self.context_window_size: int = self.metadata["context_window_size"]
        self.prefill_chunk_size: int = self.metadata["prefill_chunk_size"]
        self._parameters = _load_parameters(model_dir, library, self.metadata, self._device)
        self._max_sequences = max_sequences
        self._lengths: dict[int, int] = {}
        pages = -(-self.context_window_size // PAGE_SIZE) * max_sequences
        self._kv = self._vm["create_tir_paged_kv_cache"](
            *(
                tvm.runtime.ShapeTuple([size])
                for size in (
                    max_sequences,
                    pages * PAGE_SIZE,
                    self.prefill_chunk_size,
                    PAGE_SIZE,
                    0,
                )
            )
        )

    def length(self, sequence: int) -> int:
        """Return the number of tokens of `sequence` in the KV cache, 0 if there is none."""
        return self._lengths.get(sequence, 0)

    def reset(self) -> None:
        """Forget every sequence."""
        _kv("clear")(self._kv)
        self._lengths.clear()

    def remove(self, sequence: int) -> None:
        """Forget one sequence and free its pages; nothing happens if there is none."""
        if self._lengths.pop(sequence, None) is not None:
            _kv("remove_sequence")(self._kv, sequence)

    def prefill(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Append `tokens` to `sequence` (in chunks where needed); return the last logits, [vocab].

        Raises:
            OlmoError: no tokens, a token outside the vocabulary, or more than the context window.
        """
        self._check(sequence, tokens)
        logits = None
        for start in range(0, len(tokens), self.prefill_chunk_size):
            chunk = tokens[start : start + self.prefill_chunk_size]
            embedded = self._embed(chunk)
            with _Forward(self, [sequence], [len(chunk)]):
                logits, _ = self._vm["prefill"](
                    _view(embedded, (1, len(chunk), embedded.shape[1])), self._kv, self._parameters
                )
        return np.asarray(logits.numpy()[0, 0])  # type: ignore[union-attr] # at least one chunk ran

    def decode(self, sequence: int, token: int) -> NDArray[np.float32]:
        """Append one token to `sequence` and return the logits after it, [vocab]."""
        self._check(sequence, [token])
        embedded = self._embed([token])
        with _Forward(self, [sequence], [1]):
            logits, _ = self._vm["decode"](
                _view(embedded, (1, 1, embedded.shape[1])), self._kv, self._parameters
            )
        return np.asarray(logits.numpy()[0, 0])

    def batch_prefill(self, prompts: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Append to several sequences at once; return their last logits, [sequences, vocab].

        Raises:
            OlmoError: as `prefill`, or the prompts together exceed the prefill chunk.
        """
        for sequence, tokens in prompts.items():
            self._check(sequence, tokens)
        lengths = [len(tokens) for tokens in prompts.values()]
        if sum(lengths) > self.prefill_chunk_size:
            raise OlmoError(
                f"{sum(lengths)} tokens exceed the prefill chunk of {self.prefill_chunk_size}",
                "prefill the sequences one after the other",
            )
        embedded = self._embed([token for tokens in prompts.values() for token in tokens])
        positions = np.cumsum(lengths, dtype=np.int32) - np.int32(1)
        with _Forward(self, list(prompts), lengths):
            logits, _ = self._vm["batch_prefill"](
                _view(embedded, (1, *embedded.shape)),
                tvm.runtime.tensor(positions, self._device),
                self._kv,
                self._parameters,
            )
        return np.asarray(logits.numpy()[0])

    def batch_decode(self, tokens: Mapping[int, int]) -> NDArray[np.float32]:
        """Append one token to each of several sequences; return the logits, [sequences, vocab]."""
        for sequence, token in tokens.items():
            self._check(sequence, [token])
        embedded = self._embed(list(tokens.values()))
        with _Forward(self, list(tokens), [1] * len(tokens)):
            logits, _ = self._vm["batch_decode"](
                _view(embedded, (len(tokens), 1, embedded.shape[1])), self._kv, self._parameters
            )
        return np.asarray(logits.numpy()[:, 0])

    def _embed(self, tokens: Sequence[int]) -> Any:
        ids = tvm.runtime.tensor(np.asarray(tokens, dtype=np.int32), self._device)
        return self._vm["embed"](ids, self._parameters)

    def _check(self, sequence: int, tokens: Sequence[int]) -> None:
        vocabulary = self.metadata["params"][0]["shape"][0]  # rows of the embedding
        if not tokens:
            raise OlmoError("no tokens to run")
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise OlmoError(f"token {token} is outside the vocabulary of {vocabulary}")
        needed = self.length(sequence) + len(tokens)
        if needed > self.context_window_size:
            raise OlmoError(
                f"{needed} tokens exceed the context window of {self.context_window_size}",
                "shorten the text, start again, or compile with a larger context_window_size",
            )
        if sequence not in self._lengths:
            if len(self._lengths) >= self._max_sequences:
                raise OlmoError(f"the engine was opened for {self._max_sequences} sequences")
            _kv("add_sequence")(self._kv, sequence)
            self._lengths[sequence] = 0


class _Forward:
    """One step of the KV cache: `lengths` new tokens for each of `sequences`."""

    def __init__(self, engine: Engine, sequences: Sequence[int], lengths: Sequence[int]) -> None:
        self._engine = engine
        self._sequences = sequences
        self._lengths = lengths

    def __enter__(self) -> None:
        shape = tvm.runtime.ShapeTuple
        _kv("begin_forward")(self._engine._kv, shape(self._sequences), shape(self._lengths))  # noqa: SLF001 - a part of Engine

    def __exit__(self, *_exception: object) -> None:
        _kv("end_forward")(self._engine._kv)  # noqa: SLF001 - a part of Engine
        for sequence, length in zip(self._sequences, self._lengths, strict=True):
            self._engine._lengths[sequence] += length  # noqa: SLF001 - a part of Engine


def _kv(name: str) -> Any:
    return tvm.get_global_func(f"vm.builtin.kv_state_{name}")


def _view(tensor: Any, shape: tuple[int, ...]) -> Any:
    return tensor._create_view(shape)  # noqa: SLF001 - TVM's tensors have no public reshape


def _use_all_processors() -> None:
    """Let TVM's thread pool use every processor this process may run on, without binding to any.

    By default TVM takes every second one for a hyper-thread. No result depends on their number.
    """
    if hasattr(os, "sched_getaffinity"):
        processors = sorted(os.sched_getaffinity(0))
    else:
        processors = list(range(os.cpu_count() or 1))
    share_all = -3  # tvm::runtime::threading::ThreadGroup::kSpecifyThreadShareAllCore
    configure = tvm.get_global_func("runtime.config_threadpool")
    configure(share_all, len(processors), [str(processor) for processor in processors])


def _open_library(library: Path, device: Any) -> Any:
    if not library.is_file():
        raise OlmoError(f"{library}: no such library", "compile it first: python -m olmo compile")
    try:
        vm = VirtualMachine(tvm.runtime.load_module(str(library)), device)
        vm["_metadata"]
    except (RuntimeError, AttributeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise OlmoError(f"{library}: not a model library: {reason}") from error
    return vm


def _load_parameters(
    model_dir: Path, library: Path, metadata: Mapping[str, Any], device: Any
) -> list[Any]:
    """Return the parameters in metadata order, holding one tensor twice at a time at most."""
    cache = read_tensor_cache(model_dir)
    manifest = model_dir / MANIFEST
    wanted = {parameter["name"]: parameter for parameter in metadata["params"]}
    for name in cache.tensors:
        if name not in wanted:
            raise OlmoError(
                f"{manifest}: holds the tensor {name!r}, which {library} has no use for", _MISMATCH
            )
    for name, parameter in wanted.items():
        if name not in cache.tensors:
            raise OlmoError(
                f"{manifest}: lacks the tensor {name!r} that {library} needs", _MISMATCH
            )
        stored = cache.tensors[name].parameter
        for what, found, needed in (
            ("shape", list(stored.shape), list(parameter["shape"])),
            ("dtype", stored.dtype, parameter["dtype"]),
        ):
            if found != needed:
                raise OlmoError(
                    f"{manifest}: tensor {name!r} has {what} {found}, "
                    f"but {library} was compiled for {needed}",
                    _MISMATCH,
                )
    return [tvm.runtime.tensor(cache.read(name), device) for name in wanted]
