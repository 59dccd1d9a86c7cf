"""The files of a checkpoint and their format, found by name and by how they begin.

Imports neither numpy nor tvm.
"""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from olmo.errors import OlmoError, unknown
from olmo.json_file import read_json


@dataclass(frozen=True, slots=True)
class Format:
    """A checkpoint format: its name, its usual file name if it has one, and how files begin."""

    name: str
    single: str | None
    magic: bytes

    @property
    def index(self) -> str:
        """The name of the index of many files."""
        return f"{self.single}.index.json"


# safetensors files begin with a length, which is like no magic number.
SAFETENSORS = Format("huggingface-safetensor", "model.safetensors", b"")
TORCH = Format("huggingface-torch", "pytorch_model.bin", b"PK\x03\x04")
GGUF = Format("gguf", None, b"GGUF")
# Where a directory holds several, the first is read, as transformers does.
_FORMATS = (SAFETENSORS, TORCH, GGUF)
FORMATS = ("auto", *(f.name for f in _FORMATS))

GGUF_SUFFIX = ".gguf"
# How llama.cpp's gguf-split names the files of one model.
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a checkpoint, each with the tensors an index places in it (None without one)."""

    format: Format
    files: tuple[tuple[Path, frozenset[str] | None], ...]


def layout(source: Path, source_format: str = "auto") -> Layout:
    """Find the files of the checkpoint that `source` names: a directory, an index or a file.

    "auto" finds the format by what is there; the first bytes of a file decide, not its name.

    Raises:
        OlmoError: nothing to read, more than one checkpoint, or a broken index.
    """
    if source_format not in FORMATS:
        raise unknown("source format", source_format, FORMATS)
    formats = [f for f in _FORMATS if source_format in {"auto", f.name}]
    if source.is_dir():
        return _in_directory(source, formats)
    if not source.exists():
        raise OlmoError(f"{source}: no such file or directory")
    if source.name.endswith(".index.json"):
        files = _indexed(source)
    elif source.suffix == GGUF_SUFFIX:
        files = _split(source)
    else:
        files = ((source, None),)
    return Layout(_by_content(files[0][0], formats, _by_name(source, formats)), files)


def describe(source: Path, source_format: str = "auto") -> str:
    """Return the format and the number of files of the checkpoint that `source` names.

    Raises:
        OlmoError: nothing to read, or a broken index.
    """
    found = layout(source, source_format)
    count = len(found.files)
    return f"{found.format.name}, {count} file{'s' if count > 1 else ''}"


def _in_directory(source: Path, formats: list[Format]) -> Layout:
    for found in formats:
        files = _of_format(source, found)
        if files:
            return Layout(_by_content(files[0][0], formats, found), files)
    named = [f"{f.single}[.index.json]" for f in formats if f.single]
    if GGUF in formats:
        named.append(f"*{GGUF_SUFFIX}")
    raise OlmoError(f"{source}: no {' or '.join(named)}", _other_files(source))


def _of_format(
    source: Path, wanted: Format
) -> tuple[tuple[Path, frozenset[str] | None], ...] | None:
    """Return the files that a directory holds under the usual names of a format."""
    if wanted.single is None:
        return _in_gguf(source)
    single, index = source / wanted.single, source / wanted.index
    if single.exists() and index.exists():
        raise OlmoError(
            f"{source}: both {wanted.single} and {wanted.index} are there",
            "name one of them as the source",
        )
    if index.exists():
        return _indexed(index)
    return ((single, None),) if single.exists() else None


def _in_gguf(source: Path) -> tuple[tuple[Path, None], ...] | None:
    """Return the GGUF files of a directory, which must be those of one model."""
    paths = sorted(path for path in source.iterdir() if path.suffix == GGUF_SUFFIX)
    if not paths:
        return None
    files = _split(paths[0])
    if surplus := sorted(set(paths) - {path for path, _ in files}):
        raise OlmoError(
            f"{source}: {paths[0].name} and {surplus[0].name} are there",
            "name one of them as the source",
        )
    return files


def split_names(name: str) -> tuple[str, ...]:
    """Return the names of all files of the model that a GGUF file of this name belongs to."""
    match = _SPLIT.fullmatch(name)
    if match is None or int(match["count"]) < 1:
        return (name,)
    count = int(match["count"])
    return tuple(f"{match['stem']}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1))


def open_file(path: Path) -> int:
    """Return a descriptor of a file of a checkpoint, to read at any place of it.

    Raises:
        OlmoError: it cannot be opened, or is a pipe or something else that has no places.
    """
    try:
        # Without waiting for whoever is to write into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise OlmoError(f"{path}: no such file") from None
    except OSError as error:
        raise OlmoError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OlmoError(f"{path}: not a regular file")
    return descriptor


def _split(path: Path) -> tuple[tuple[Path, None], ...]:
    """Return all files of the model that a GGUF file belongs to, the first one first."""
    paths = [path.with_name(name) for name in split_names(path.name)]
    for other in paths:
        if len(paths) > 1 and not other.exists():
            raise OlmoError(
                f"{path}: {other.name} of the same model is not there", "download the missing file"
            )
    return tuple((other, None) for other in paths)


def _by_name(source: Path, formats: list[Format]) -> Format:
    """Return the format that a name promises, the first if it promises none."""
    name = source.name.removesuffix(".index.json")
    suffixes = {".bin": TORCH, ".pt": TORCH, ".pth": TORCH, GGUF_SUFFIX: GGUF}
    promised = suffixes.get(PurePosixPath(name).suffix)
    return promised if promised in formats else formats[0]


def _by_content(path: Path, formats: list[Format], otherwise: Format) -> Format:
    """Return the format of a file by its first bytes; `otherwise` if they are like no other's."""
    if len(formats) == 1 or not path.is_file():
        return otherwise
    try:
        with path.open("rb") as file:
            start = file.read(max(len(f.magic) for f in formats))
    except OSError as error:
        raise OlmoError(f"{path}: {error.strerror}") from None
    return next((f for f in formats if f.magic and start.startswith(f.magic)), otherwise)


def _other_files(source: Path) -> str | None:
    for path in sorted(source.iterdir()):
        if path.suffix in {".safetensors", ".bin", ".pt", ".pth"}:
            return f"to read {path.name}, name it as the source"
    return None


def indexed_files(index: object, where: str) -> dict[str, frozenset[str]]:
    """Return the files that a parsed index names, in order, with the tensors it places in each.

    Raises:
        OlmoError: no index, or a file outside its directory.
    """
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise OlmoError(f"{where}: no weight_map")
    listed: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        _check_inside(file, tensor, where)
        listed.setdefault(file, set()).add(tensor)
    return {file: frozenset(listed[file]) for file in sorted(listed)}


def _indexed(index: Path) -> tuple[tuple[Path, frozenset[str] | None], ...]:
    listed = indexed_files(read_json(index), str(index))
    for file in listed:
        if not (index.parent / file).exists():
            raise OlmoError(
                f"{index}: names {file}, which is not there", "download the missing file"
            )
    return tuple((index.parent / file, tensors) for file, tensors in listed.items())


def _check_inside(file: Any, tensor: str, where: str) -> None:
    """Refuse a file name that leads out of the directory of the index."""
    parts: Iterable[str] = PurePosixPath(file).parts if isinstance(file, str) else ()
    if (
        not parts
        or file.startswith("/")
        or ".." in parts
        or "\\" in file
        or "\0" in file
        or ":" in file
    ):
        raise OlmoError(
            f"{where}: tensor {tensor!r} is placed in {file!r}, outside the checkpoint's directory"
        )
