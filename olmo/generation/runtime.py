"""Running a compiled library: its functions, parameters and KV cache behind numpy arrays.

`Engine` holds the weights of one converted directory once, in the layout the library wants, and a
paged KV cache for a few sequences.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.runtime.vm import VirtualMachine

from olmo.errors import OlmoError
from olmo.generation.library_parameters import LibraryParameters
from olmo.generation.workers import Workers

PAGE_SIZE = 16  # tokens; the attention kernels are compiled for it

_T = TypeVar("_T")


class Engine:
    """A library with the weights of a converted directory, on this machine's CPU.

    A library for several devices runs on as many threads. `max_sequences` is the number of sequences
    that can be live at once; each may grow to the library's context window. Logits are numpy float32
    arrays. Not safe for use by several threads.

    Raises:
        OlmoError: the library cannot be loaded, has no metadata, or was compiled with a sliding
            window; the directory's tensors are not those the library was compiled for (names the
            tensor and both files).
    """

    def __init__(self, model_dir: Path, library: Path, max_sequences: int = 1) -> None:
        described = _open_library(library, tvm.cpu())["_metadata"]
        self.metadata: Mapping[str, Any] = json.loads(str(described()))
        if self.metadata["sliding_window_size"] != -1:
            raise OlmoError(
                f"{library}: was compiled with sliding_window_size "
                f"{self.metadata['sliding_window_size']}, which this runtime does not run"
            )
        self.context_window_size: int = self.metadata["context_window_size"]
        self.prefill_chunk_size: int = self.metadata["prefill_chunk_size"]
        self._max_sequences = max_sequences
        self._lengths: dict[int, int] = {}
        shards = self.metadata["tensor_parallel_shards"]
        self._workers = Workers(shards, self.metadata["pipeline_parallel_stages"])
        self._last = self._workers.count - shards  # the first worker that has logits
        parameters = LibraryParameters(model_dir, library, self.metadata)
        pages = -(-self.context_window_size // PAGE_SIZE) * max_sequences
        sizes = (max_sequences, pages * PAGE_SIZE, self.prefill_chunk_size, PAGE_SIZE, 0)
        self._devices = self._workers.run(
            lambda n: _Device(library, parameters, n % shards, n // shards, sizes)
        )

    def length(self, sequence: int) -> int:
        """Return the number of tokens of `sequence` in the KV cache, 0 if there is none."""
        return self._lengths.get(sequence, 0)

    def reset(self) -> None:
        """Forget every sequence."""
        self._each(lambda device: device.kv("clear"))
        self._lengths.clear()

    def remove(self, sequence: int) -> None:
        """Forget one sequence and free its pages; nothing happens if there is none."""
        if self._lengths.pop(sequence, None) is not None:
            self._each(lambda device: device.kv("remove_sequence", sequence))

    def prefill(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Append `tokens` to `sequence` (in chunks where needed); return the last logits, [vocab].

        Raises:
            OlmoError: no tokens, a token outside the vocabulary, or more than the context window.
        """
        self._check(sequence, tokens)
        for start in range(0, len(tokens), self.prefill_chunk_size):
            chunk = tokens[start : start + self.prefill_chunk_size]
            logits = self._forward("prefill", {sequence: len(chunk)}, chunk, batch=1)
        return np.asarray(logits[0, 0])

    def decode(self, sequence: int, token: int) -> NDArray[np.float32]:
        """Append one token to `sequence` and return the logits after it, [vocab]."""
        self._check(sequence, [token])
        return np.asarray(self._forward("decode", {sequence: 1}, [token], batch=1)[0, 0])

    def batch_prefill(self, prompts: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Append to several sequences at once; return their last logits, [sequences, vocab].

        Raises:
            OlmoError: as `prefill`, or the prompts together exceed the prefill chunk.
        """
        for sequence, tokens in prompts.items():
            self._check(sequence, tokens)
        lengths = {sequence: len(tokens) for sequence, tokens in prompts.items()}
        total = sum(lengths.values())
        if total > self.prefill_chunk_size:
            raise OlmoError(
                f"{total} tokens exceed the prefill chunk of {self.prefill_chunk_size}",
                "prefill the sequences one after the other",
            )
        tokens = [token for prompt in prompts.values() for token in prompt]
        last = np.cumsum(list(lengths.values()), dtype=np.int32) - np.int32(1)
        return np.asarray(self._forward("batch_prefill", lengths, tokens, last, batch=1)[0])

    def batch_decode(self, tokens: Mapping[int, int]) -> NDArray[np.float32]:
        """Append one token to each of several sequences; return the logits, [sequences, vocab]."""
        for sequence, token in tokens.items():
            self._check(sequence, [token])
        lengths = dict.fromkeys(tokens, 1)
        given = list(tokens.values())
        return np.asarray(self._forward("batch_decode", lengths, given, batch=len(given))[:, 0])

    def _forward(
        self,
        function: str,
        lengths: Mapping[int, int],
        tokens: Sequence[int],
        *arguments: NDArray[np.int32],
        batch: int,
    ) -> NDArray[np.float32]:
        """Run a function over new tokens, `lengths` by sequence; return its logits.

        The tokens' embeddings have the shape [batch, tokens of each, hidden].
        """
        for sequence, length in lengths.items():
            self._lengths[sequence] += length
        outputs = self._each(
            lambda device: device.forward(function, lengths, tokens, arguments, batch)
        )
        return np.asarray(outputs[self._last].numpy())

    def _each(self, work: Callable[["_Device"], _T]) -> list[_T]:
        return self._workers.run(lambda n: work(self._devices[n]))

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
            self._each(lambda device: device.kv("add_sequence", sequence))
            self._lengths[sequence] = 0


class _Device:
    """A library's functions, with parameters and KV cache, in the thread of one worker."""

    def __init__(
        self,
        library: Path,
        parameters: LibraryParameters,
        shard: int,
        stage: int,
        sizes: Sequence[int],
    ) -> None:
        self._cpu = tvm.cpu()
        self._vm = _open_library(library, self._cpu)
        self._parameters = [
            self._parameter(array, divide, shard) for array, divide in parameters.read(shard, stage)
        ]
        create = self._vm["create_tir_paged_kv_cache"]
        self._cache = create(*(tvm.runtime.ShapeTuple([size]) for size in sizes))

    def kv(self, name: str, *arguments: Any) -> None:
        """Call a function of the KV cache."""
        tvm.get_global_func(f"vm.builtin.kv_state_{name}")(self._cache, *arguments)

    def forward(
        self,
        function: str,
        lengths: Mapping[int, int],
        tokens: Sequence[int],
        arguments: Sequence[NDArray[np.int32]],
        batch: int,
    ) -> Any:
        """Run a function over new tokens; return its first result."""
        embedded = self._vm["embed"](self._tensor(np.asarray(tokens, np.int32)), self._parameters)
        rows, width = embedded.shape
        states = embedded._create_view((batch, rows // batch, width))  # noqa: SLF001 - TVM's tensors have no public reshape
        shape = tvm.runtime.ShapeTuple
        self.kv("begin_forward", shape(list(lengths)), shape(list(lengths.values())))
        try:
            given = map(self._tensor, arguments)
            return self._vm[function](states, *given, self._cache, self._parameters)[0]
        finally:
            self.kv("end_forward")

    def _parameter(
        self, array: NDArray[Any] | None, divide: Mapping[str, Any] | None, shard: int
    ) -> Any:
        """Return what this device holds of a tensor: nothing, all of it, or its part."""
        if array is None:
            return None
        whole = self._tensor(array)
        if divide is None:
            return whole
        parts = tvm.runtime.empty(tuple(divide["out_shape"]), divide["out_dtype"], self._cpu)
        function = self._vm.module.get_function(divide["func_name"], query_imports=True)
        function(whole, parts)
        return self._tensor(parts.numpy()[shard])

    def _tensor(self, array: NDArray[Any]) -> Any:
        return tvm.runtime.tensor(array, self._cpu)


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
