"""The header of a GGUF file: metadata by key, and where each tensor's bytes lie.

Read here rather than by gguf's own reader because that one maps a file of any content, takes a
numpy array for each string of a vocabulary, and is silent where a file ends early. Specification:
`docs/gguf.md` of ggml, versions 2 and 3, little-endian.
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo.checkpoints.checkpoint_files import open_file
from olmo.errors import OlmoError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY, DEFAULT_ALIGNMENT = "general.alignment", 32
# Far more than the vocabulary and merges of any tokenizer.
MAX_ARRAY_LENGTH = 1 << 24
MAX_STRING_BYTES = 1 << 24
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS

_TRUNCATED_HINT = "the file is truncated or damaged: download or copy it again"
_WINDOW_BYTES = 1 << 20

# Value types by number: struct formats, None for the two of varying length.
_VALUES: Mapping[int, str | None] = {
    0: "B",
    1: "b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "?",
    8: None,  # string
    9: None,  # array
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9

# ggml's types by number: name, elements in a block, bytes of a block. Source: ggml.h, ggml-common.h.
TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: ggml type, shape with rows first (elements), and its bytes in the file.

    A row is whole blocks of `block` elements, each of `block_bytes` bytes.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    block: int
    block_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says before its data."""

    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]


def read_header(path: Path) -> Header:
    """Return the header of a GGUF file.

    Raises:
        OlmoError: as `parse_header`, or the file cannot be read.
    """
    descriptor = open_file(path)
    try:
        return parse_header(descriptor, str(path))
    finally:
        os.close(descriptor)


def parse_header(descriptor: int, file: str) -> Header:
    """Return the header of an open GGUF file; `file` names it in errors.

    Raises:
        OlmoError: not GGUF, another version or byte order, a header that ends early, repeats a key
            or a tensor, or a tensor whose bytes are not all in the file.
    """
    cursor = _Cursor(descriptor, file)
    if cursor.take(4) != MAGIC:
        raise OlmoError(f"{file}: not a GGUF file")
    version = cursor.number("<I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "big"), "little")
        what = "big-endian" if swapped in VERSIONS else f"of version {version}"
        raise OlmoError(
            f"{file}: is a GGUF file {what}, but little-endian versions 2 and 3 are read",
            "convert it again with the current llama.cpp",
        )
    tensor_count, key_count = cursor.number("<Q"), cursor.number("<Q")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.string()
        if key in metadata:
            raise OlmoError(f"{file}: the key {key!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("<I"))
    infos = [_tensor_info(cursor, file) for _ in range(tensor_count)]
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise OlmoError(f"{file}: {ALIGNMENT_KEY} is {alignment!r}, not a power of two")
    start = -(-cursor.position // alignment) * alignment
    return Header(metadata, _placed(infos, start, alignment, cursor.size, file))


def _tensor_info(cursor: "_Cursor", file: str) -> TensorInfo:
    name = cursor.string()
    where = f"{file}: tensor {name!r}"
    dimensions = cursor.number("<I")
    if not 0 < dimensions <= MAX_DIMENSIONS:
        raise OlmoError(f"{where}: has {dimensions} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(dimensions))[::-1]
    number, offset = cursor.number("<I"), cursor.number("<Q")
    if number not in TYPES:
        raise OlmoError(
            f"{where}: unknown ggml type {number}", "convert the model to F16, Q8_0 or safetensors"
        )
    kind, block, block_bytes = TYPES[number]
    if shape[-1] % block:
        raise OlmoError(f"{where}: rows of {shape[-1]} elements are not whole blocks of {kind}")
    return TensorInfo(name, kind, shape, offset, block, block_bytes)


def _placed(
    infos: list[TensorInfo], start: int, alignment: int, size: int, file: str
) -> tuple[TensorInfo, ...]:
    """Return the tensors with offsets in the file; no two may share a name or a byte."""
    placed = []
    names = set()
    position = start
    for info in sorted(infos, key=lambda info: info.offset):
        where = f"{file}: tensor {info.name!r}"
        offset = start + info.offset
        if info.name in names:
            raise OlmoError(f"{where} occurs twice")
        if offset % alignment or offset < position:
            raise OlmoError(f"{where} overlaps another or is not aligned")
        position = offset + math.prod(info.shape) // info.block * info.block_bytes
        if position > size:
            raise OlmoError(f"{where} goes beyond the end of the file", _TRUNCATED_HINT)
        names.add(info.name)
        placed.append(
            TensorInfo(info.name, info.type, info.shape, offset, info.block, info.block_bytes)
        )
    return tuple(placed)


class _Cursor:
    """Reads a file from its start through a window, so that memory does not grow with it."""

    def __init__(self, descriptor: int, file: str) -> None:
        self.position = 0
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._file = file
        self._window = b""
        self._start = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if self.position + count > self.size:
            raise OlmoError(f"{self._file}: the header ends early", _TRUNCATED_HINT)
        begin = self.position - self._start
        if begin + count > len(self._window):
            self._start, begin = self.position, 0
            self._window = os.pread(self._descriptor, max(count, _WINDOW_BYTES), self.position)
        self.position += count
        return self._window[begin : begin + count]

    def number(self, form: str) -> Any:
        """Return the next number, in struct's format."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        """Return the next string: 8 bytes of length, then UTF-8."""
        length = self.number("<Q")
        if length > MAX_STRING_BYTES:
            raise OlmoError(f"{self._file}: a string of {length} bytes in the header")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise OlmoError(f"{self._file}: a string of the header is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """Return the next metadata value: a number, a truth value, a string or a list of these."""
        if kind not in _VALUES:
            raise OlmoError(f"{self._file}: unknown type {kind} of a metadata value")
        form = _VALUES[kind]
        if form is not None:
            return self.number(form)
        if kind == _STRING:
            return self.string()
        element, length = self.number("<I"), self.number("<Q")
        if element == _ARRAY or length > MAX_ARRAY_LENGTH:
            raise OlmoError(f"{self._file}: a list of lists, or of {length} values, in the header")
        return [self.value(element) for _ in range(length)]
