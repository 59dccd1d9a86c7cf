"""A checkpoint: all tensors of a model, in one file or in many with an index.

Everything that headers can tell is checked before the first weight is read: names, shapes, dtypes,
byte ranges, and that each file the index names is there.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from olmo import safetensors_file, torch_file
from olmo.config import OLMoConfig
from olmo.errors import OlmoError, unknown
from olmo.json_file import read_json
from olmo.source_tensor import DTYPES, SourceTensor
from olmo.weights import Source, is_ignored, weights


@dataclass(frozen=True, slots=True)
class Format:
    """A checkpoint format: its usual file names, how its files begin, and their reader."""

    name: str
    single: str
    magic: bytes
    read_header: Callable[[int, str], dict[str, SourceTensor]]

    @property
    def index(self) -> str:
        """The name of the index of many files."""
        return f"{self.single}.index.json"


# Where a directory holds several, the first is read, as transformers does.
_FORMATS = (
    Format("huggingface-safetensor", "model.safetensors", b"", safetensors_file.read_header),
    Format("huggingface-torch", "pytorch_model.bin", b"PK\x03\x04", torch_file.read_header),
)
FORMATS = ("auto", *(f.name for f in _FORMATS))

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_COMPARED_ROWS = 256  # of two copies of the embedding, at once


@dataclass(frozen=True, slots=True)
class _Layout:
    """The files of a checkpoint, each with the tensors an index places in it (None without one)."""

    format: Format
    files: tuple[tuple[Path, frozenset[str] | None], ...]


@contextmanager
def open_checkpoint(
    source: Path, config: OLMoConfig, source_format: str = "auto"
) -> Iterator[Mapping[str, SourceTensor]]:
    """Open a checkpoint and yield its tensors by name: exactly those that `config` needs.

    `source` is a directory with the usual file or index of a format, or one such file. "auto" finds
    the format by what is there. Tensors that transformers once saved and nobody reads
    (`rotary_emb.inv_freq`), and a second copy of tied embeddings, are left out. The files are open
    until the context ends.

    Raises:
        OlmoError: nothing to read, a broken file or index, or tensors that are missing, not
            expected, or of the wrong shape or dtype.
    """
    layout = _layout(source, source_format)
    with ExitStack() as stack:
        tensors: dict[str, SourceTensor] = {}
        for path, listed in layout.files:
            header = layout.format.read_header(_open(path, stack), str(path))
            _check_listed(path, header, listed)
            for name, tensor in header.items():
                if name in tensors:
                    raise OlmoError(f"{path}: tensor {name!r} is also in {tensors[name].file}")
                tensors[name] = tensor
        yield _expected(tensors, config, source)


def describe(source: Path, source_format: str = "auto") -> str:
    """Return the format and the number of files that `open_checkpoint` will read.

    Raises:
        OlmoError: nothing to read, or a broken index.
    """
    layout = _layout(source, source_format)
    count = len(layout.files)
    return f"{layout.format.name}, {count} file{'s' if count > 1 else ''}"


def _open(path: Path, stack: ExitStack) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OlmoError(f"{path}: no such file") from None
    except OSError as error:
        raise OlmoError(f"{path}: {error.strerror}") from None
    stack.callback(os.close, descriptor)
    if not path.is_file():
        raise OlmoError(f"{path}: not a regular file")
    return descriptor


def _layout(source: Path, source_format: str) -> _Layout:
    if source_format not in FORMATS:
        raise unknown("source format", source_format, FORMATS)
    formats = [f for f in _FORMATS if source_format in {"auto", f.name}]
    if source.is_dir():
        return _in_directory(source, formats)
    if not source.exists():
        raise OlmoError(f"{source}: no such file or directory")
    if source.name.endswith(".index.json"):
        files = _indexed(source)
        return _Layout(_by_content(files[0][0], formats), files)
    return _Layout(_by_content(source, formats), ((source, None),))


def _in_directory(source: Path, formats: list[Format]) -> _Layout:
    for found in formats:
        single, index = source / found.single, source / found.index
        if single.exists() and index.exists():
            raise OlmoError(
                f"{source}: both {found.single} and {found.index} are there",
                "name one of them as the source",
            )
        if index.exists():
            return _Layout(found, _indexed(index))
        if single.exists():
            return _Layout(found, ((single, None),))
    wanted = " or ".join(f"{f.single}[.index.json]" for f in formats)
    raise OlmoError(f"{source}: no {wanted}", _other_files(source))


def _by_content(path: Path, formats: list[Format]) -> Format:
    """Return the format of a file by its first bytes; safetensors files begin with a length."""
    if len(formats) == 1 or not path.is_file():
        return formats[0]
    with path.open("rb") as file:
        start = file.read(max(len(f.magic) for f in formats))
    return next((f for f in formats if f.magic and start.startswith(f.magic)), formats[0])


def _other_files(source: Path) -> str | None:
    for path in sorted(source.iterdir()):
        if path.suffix == ".gguf":
            return f"{path.name} is a GGUF file: convert it to safetensors first"
        if path.suffix in {".safetensors", ".bin", ".pt", ".pth"}:
            return f"to read {path.name}, name it as the source"
    return None


def _indexed(index: Path) -> tuple[tuple[Path, frozenset[str] | None], ...]:
    obj = read_json(index)
    weight_map = obj.get("weight_map") if isinstance(obj, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise OlmoError(f"{index}: no weight_map")
    listed: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        _check_inside(file, tensor, index)
        listed.setdefault(file, set()).add(tensor)
    for file in sorted(listed):
        if not (index.parent / file).exists():
            raise OlmoError(
                f"{index}: names {file}, which is not there", "download the missing file"
            )
    return tuple((index.parent / file, frozenset(listed[file])) for file in sorted(listed))


def _check_inside(file: Any, tensor: str, index: Path) -> None:
    """Refuse a file name that leads out of the directory of the index."""
    parts = PurePosixPath(file).parts if isinstance(file, str) else ()
    if (
        not parts
        or file.startswith("/")
        or ".." in parts
        or "\\" in file
        or "\0" in file
        or ":" in file
    ):
        raise OlmoError(
            f"{index}: tensor {tensor!r} is placed in {file!r}, outside the checkpoint's directory"
        )


def _check_listed(path: Path, header: Mapping[str, Any], listed: frozenset[str] | None) -> None:
    if listed is None:
        return
    if absent := sorted(listed - header.keys()):
        raise OlmoError(f"{path}: the index places {_some(absent)} in this file, but it is not")
    if surplus := sorted(header.keys() - listed):
        raise OlmoError(f"{path}: holds {_some(surplus)}, which the index does not name")


def _expected(
    tensors: Mapping[str, SourceTensor], config: OLMoConfig, source: Path
) -> dict[str, SourceTensor]:
    """Return the tensors of the model's own sources; anything else is an error."""
    sources = [s for weight in weights(config) for s in weight.sources]
    names = {s.name for s in sources}
    found = {name: tensor for name, tensor in tensors.items() if not is_ignored(name)}
    if missing := [s.name for s in sources if s.name not in found]:
        raise OlmoError(f"{source}: missing {_some(missing)}", _missing_hint(missing, config))
    for s in sources:
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
    if not tensor.is_weight:
        raise OlmoError(
            f"{where} has dtype {tensor.dtype}, but weights are {', '.join(sorted(DTYPES))}"
        )


def _missing_hint(missing: Iterable[str], config: OLMoConfig) -> str | None:
    if "lm_head.weight" in missing and not config.tie_word_embeddings:
        return "config.json says tie_word_embeddings is false: is it true for this model?"
    return None


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
