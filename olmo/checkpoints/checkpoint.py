"""A checkpoint: all tensors of a model, in one file or in many with an index.

Everything that headers can tell is checked before the first weight is read: names, shapes, dtypes,
byte ranges, and that each file the index names is there.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from olmo.checkpoints import gguf_file, safetensors_file, torch_file
from olmo.checkpoints.checkpoint_files import GGUF, TORCH, Format, layout, open_file
from olmo.checkpoints.source_tensor import DTYPES, SourceTensor
from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.weights import Source, is_ignored, sources

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_COMPARED_ROWS = 256  # of two copies of the embedding, at once
_WORDS = ("I32", "int32")  # 32-bit words, as safetensors and torch name them


@contextmanager
def open_checkpoint(
    source: Path,
    config: OLMoConfig,
    source_format: str = "auto",
    wanted: Sequence[Source] | None = None,
) -> Iterator[Mapping[str, SourceTensor]]:
    """Open a checkpoint and yield its tensors by name: exactly those that `config` needs.

    `wanted` are those that a quantization needs (`olmo.weights.sources`), by default what most do.

    `source` is a directory with the usual file or index of a format, or one such file. "auto" finds
    the format by what is there. Tensors that transformers once saved and nobody reads
    (`rotary_emb.inv_freq`), and a second copy of tied embeddings, are left out. The files are open
    until the context ends.

    Raises:
        OlmoError: nothing to read, a broken file or index, or tensors that are missing, not
            expected, or of the wrong shape or dtype.
    """
    found = layout(source, source_format)
    with ExitStack() as stack:
        tensors: dict[str, SourceTensor] = {}
        for path, listed in found.files:
            header = _read_header(found.format, _open(path, stack), str(path), config)
            _check_listed(path, header, listed)
            for name, tensor in header.items():
                if name in tensors:
                    raise OlmoError(f"{path}: tensor {name!r} is also in {tensors[name].file}")
                tensors[name] = tensor
        yield _expected(tensors, sources(config) if wanted is None else wanted, config, source)


def _open(path: Path, stack: ExitStack) -> int:
    descriptor = open_file(path)
    stack.callback(os.close, descriptor)
    return descriptor


def _read_header(
    wanted: Format, descriptor: int, file: str, config: OLMoConfig
) -> dict[str, SourceTensor]:
    if wanted is GGUF:
        return gguf_file.read_header(descriptor, file, config)
    if wanted is TORCH:
        return torch_file.read_header(descriptor, file)
    return safetensors_file.read_header(descriptor, file)


def _check_listed(path: Path, header: Mapping[str, Any], listed: frozenset[str] | None) -> None:
    if listed is None:
        return
    if absent := sorted(listed - header.keys()):
        raise OlmoError(f"{path}: the index places {_some(absent)} in this file, but it is not")
    if surplus := sorted(header.keys() - listed):
        raise OlmoError(f"{path}: holds {_some(surplus)}, which the index does not name")


def _expected(
    tensors: Mapping[str, SourceTensor],
    wanted: Sequence[Source],
    config: OLMoConfig,
    source: Path,
) -> dict[str, SourceTensor]:
    """Return the wanted tensors; anything else is an error."""
    names = {s.name for s in wanted}
    found = {name: tensor for name, tensor in tensors.items() if not is_ignored(name)}
    if missing := [s.name for s in wanted if s.name not in found]:
        hint = _missing_hint(missing, found, config)
        raise OlmoError(f"{source}: missing {_some(missing)}", hint)
    for s in wanted:
        _check_tensor(found[s.name], s)
    if config.tie_word_embeddings and _is_copy(found.get(_HEAD), found[_EMBEDDING]):
        del found[_HEAD]
    if surplus := sorted(found.keys() - names):
        raise OlmoError(
            f"{source}: {_some(surplus)} not expected by config.json", _surplus_hint(surplus)
        )
    return found


def _is_copy(head: SourceTensor | None, embedding: SourceTensor) -> bool:
    """Return whether the head of a model with tied embeddings is the embedding, saved again."""
    if head is None or (head.shape, head.dtype) != (embedding.shape, embedding.dtype):
        return False
    if (head.file, head.offset, head.strides) == (
        embedding.file,
        embedding.offset,
        embedding.strides,
    ):
        return True
    rows, columns = head.shape
    for start in range(0, rows, _COMPARED_ROWS):
        stop = min(start + _COMPARED_ROWS, rows)
        first, second = (np.empty((stop - start, columns), np.float32) for _ in range(2))
        head.read_rows(start, stop, first)
        embedding.read_rows(start, stop, second)
        if first.tobytes() != second.tobytes():
            return False
    return True


def _check_tensor(tensor: SourceTensor, source: Source) -> None:
    where = f"{tensor.file}: tensor {tensor.name!r}"
    if tensor.shape != source.shape:
        raise OlmoError(
            f"{where} has shape {list(tensor.shape)}, but config.json says {list(source.shape)}"
        )
    if source.packed:
        if tensor.dtype not in _WORDS:
            raise OlmoError(f"{where} has dtype {tensor.dtype}, but packed weights are int32")
    elif not tensor.is_weight:
        raise OlmoError(
            f"{where} has dtype {tensor.dtype}, but weights are {', '.join(sorted(DTYPES))}"
        )


def _missing_hint(missing: Iterable[str], found: Iterable[str], config: OLMoConfig) -> str | None:
    if any(name.endswith(".qweight") for name in found):
        return "the checkpoint is quantized already: AWQ ones convert to q4f16_awq"
    if any(name.endswith(".qweight") for name in missing):
        return "q4f16_awq needs a checkpoint quantized with AWQ: choose q4f16_1 for this one"
    if "lm_head.weight" in missing and not config.tie_word_embeddings:
        return "config.json says tie_word_embeddings is false: is it true for this model?"
    return "config.json or an index is of another checkpoint, or the download is not whole"


def _surplus_hint(surplus: Iterable[str]) -> str | None:
    names = list(surplus)
    if "lm_head.weight" in names:
        return "config.json says tie_word_embeddings is true: is it false for this model?"
    if any("norm" in name for name in names):
        return "OLMo has no norm weights: is this checkpoint of another family?"
    if any(name.endswith(".bias") for name in names):
        return "OLMo has no biases: is this checkpoint of another family?"
    return None


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"tensor{'s' if len(names) > 1 else ''} {shown}{more}"
