"""The header of a safetensors file: 8 bytes of length, then JSON, then the tensors' bytes.

Read here rather than by the safetensors package because conversion reads rows at an offset, with
memory that does not grow with the file, and because every defect must name the file and the tensor.
Specification: the safetensors README, "Format".
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from olmo.checkpoints.source_tensor import SourceTensor
from olmo.errors import OlmoError
from olmo.json_file import parse_json

# The limit of the reference implementation.
MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 64  # numpy's limit

# Bytes per element; the names of those that weights may have.
_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_TRUNCATED_HINT = "the file is truncated: download or copy it again"


def read_header(descriptor: int, file: str) -> dict[str, SourceTensor]:
    """Return the tensors of an open safetensors file, by name; `file` names it in errors.

    dtypes that weights may have get numpy's names, others keep theirs.

    Raises:
        OlmoError: a bad or oversized header, a dtype or shape that is none, byte ranges that
            overlap, leave gaps, do not fit the shape, or go beyond the end of the file.
    """
    size = os.fstat(descriptor).st_size
    prefix = os.pread(descriptor, 8, 0)
    if len(prefix) < 8:
        raise OlmoError(f"{file}: too short for a safetensors file", _TRUNCATED_HINT)
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise OlmoError(f"{file}: not a safetensors file: its header would be {length} bytes")
    if 8 + length > size:
        raise OlmoError(f"{file}: the header goes beyond the end of the file", _TRUNCATED_HINT)
    header = parse_json(os.pread(descriptor, length, 8), f"{file}: header")
    if not isinstance(header, dict):
        raise OlmoError(f"{file}: the header is not a table of tensors")
    header.pop("__metadata__", None)
    tensors = {}
    ranges = []
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(entry, f"{file}: tensor {name!r}")
        tensors[name] = SourceTensor(name, dtype, shape, file, descriptor, 8 + length + begin)
        ranges.append((begin, end, name))
    _check_ranges(sorted(ranges), size - 8 - length, file)
    return tensors


def _entry(entry: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise OlmoError(f"{where}: expected dtype, shape and data_offsets in the header")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise OlmoError(f"{where}: unknown dtype {dtype!r}")
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise OlmoError(f"{where}: bad shape {shape!r}")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise OlmoError(f"{where}: bad data_offsets {offsets!r}")
    expected = math.prod(shape) * _BITS[dtype] // 8
    if offsets[1] - offsets[0] != expected:
        raise OlmoError(
            f"{where}: {dtype} of shape {shape} is {expected} bytes, "
            f"but data_offsets {offsets} span {offsets[1] - offsets[0]}"
        )
    return _NAMES.get(dtype, dtype), tuple(shape), offsets[0], offsets[1]


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_ranges(ranges: list[tuple[int, int, str]], size: int, file: str) -> None:
    """Hold the sorted byte ranges against the specification: they tile the file's data exactly."""
    position = 0
    for begin, end, name in ranges:
        if begin != position:
            what = "overlaps the one before it" if begin < position else "leaves a gap before it"
            raise OlmoError(f"{file}: tensor {name!r} {what}")
        if end > size:
            raise OlmoError(
                f"{file}: tensor {name!r} goes beyond the end of the file", _TRUNCATED_HINT
            )
        position = end
    if position != size:
        raise OlmoError(f"{file}: {size - position} bytes after the last tensor")
