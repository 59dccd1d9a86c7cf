"""MLC's weight directory, `tensor-cache.json` and `params_shard_{i}.bin`: its layout and writer.

Format as tvm's `contrib/tvmjs.py` writes it and its runtime loads it. Records have the order in
which parameters are given. With the encoding "f32-to-bf16", float32 tensors are stored as bfloat16,
everything else as it is. `olmo.conversion.tensor_cache_reader` reads it.
"""

import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from ml_dtypes import bfloat16, float8_e4m3fn, float8_e5m2
from numpy.typing import NDArray

from olmo.quantization import Encoding
from olmo.weights import Parameter

MANIFEST = "tensor-cache.json"
BFLOAT16_MANIFEST = "tensor-cache-b16.json"
SHARD_CAP = 32 << 20

DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(bfloat16),
    "uint32": np.dtype("<u4"),
    "float8_e5m2": np.dtype(float8_e5m2),
    "float8_e4m3fn": np.dtype(float8_e4m3fn),
}


@dataclass(frozen=True, slots=True)
class Record:
    """One stored tensor: `nbytes` at `offset` of its shard."""

    parameter: Parameter
    encoding: Encoding
    nbytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One `params_shard_{number}.bin`."""

    number: int
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """The file name."""
        return f"params_shard_{self.number}.bin"

    @property
    def nbytes(self) -> int:
        """The file size."""
        return sum(record.nbytes for record in self.records)


def is_file_of_cache(name: str) -> bool:
    """Return whether a file of this name belongs to a weight directory."""
    number = name.removeprefix("params_shard_").removesuffix(".bin")
    return name in {MANIFEST, BFLOAT16_MANIFEST} or name == f"params_shard_{number}.bin"


def stored_dtype(dtype: str, encoding: Encoding) -> str:
    """Return the dtype that the file holds for parameters of this dtype."""
    return "bfloat16" if encoding == "f32-to-bf16" and dtype == "float32" else dtype


def stored_bytes(parameter: Parameter, encoding: Encoding) -> int:
    """Return how many bytes the file holds for a parameter."""
    return math.prod(parameter.shape) * DTYPES[stored_dtype(parameter.dtype, encoding)].itemsize


def plan_shards(
    parameters: Sequence[Parameter], encoding: Encoding, cap: int = SHARD_CAP
) -> tuple[Shard, ...]:
    """Distribute parameters over shards, by number.

    A tensor that would bring the open shard to `cap` bytes closes it first, except that one of at
    least half the cap becomes a shard of its own and leaves the open one open, which so gets a
    later number.
    """
    shards: list[Shard] = []
    pending: list[Record] = []

    def close(records: Sequence[Record]) -> None:
        if records:
            shards.append(Shard(len(shards), tuple(records)))

    for parameter in parameters:
        size = stored_bytes(parameter, encoding)
        offset = sum(record.nbytes for record in pending)
        if offset + size >= cap:
            if 2 * size >= cap:
                close([Record(parameter, encoding, size, 0)])
                continue
            close(pending)
            pending, offset = [], 0
        pending.append(Record(parameter, encoding, size, offset))
    close(pending)
    return tuple(shards)


class Writer:
    """Writes a weight directory, piece by piece.

    Bytes may be put in place by any thread in any order; each is hashed from memory, in the order
    of the parameters, so nothing is read again and nothing has to be held for long.

    Raises:
        OSError: a file cannot be written.
        ValueError: a piece is out of order or too long; at `finish`, something is missing.
    """

    def __init__(
        self, directory: Path, parameters: Sequence[Parameter], encoding: Encoding = "f32-to-bf16"
    ) -> None:
        self._directory = directory
        self._shards = plan_shards(parameters, encoding)
        self._place = {r.parameter.name: (s, r) for s in self._shards for r in s.records}
        self._order = [p.name for p in parameters]
        self._hashed = 0  # bytes of the current tensor
        self._current = 0  # its position in the order
        self._files: dict[int, IO[bytes]] = {}
        self._opening = threading.Lock()
        self._sums = [hashlib.md5(usedforsecurity=False) for _ in self._shards]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def place(self, name: str, start: int, piece: NDArray[Any]) -> None:
        """Write bytes of the tensor `name` at `start`, in bytes, of it."""
        shard, record = self._place[name]
        data = _bytes_of(piece)
        if start + data.nbytes > record.nbytes:
            raise ValueError(f"{name} is too long")
        _write_all(self._file(shard).fileno(), data, record.offset + start)

    def hash(self, name: str, piece: NDArray[Any]) -> None:
        """Hash the next piece of the tensor `name`, which has been put in place.

        Pieces of one tensor come in order, and a tensor is complete before the next one begins.
        """
        if self._current == len(self._order) or self._order[self._current] != name:
            raise ValueError(f"{name} is out of order")
        shard, record = self._place[name]
        data = _bytes_of(piece)
        self._sums[shard.number].update(data)
        self._hashed += data.nbytes
        if self._hashed == record.nbytes:
            self._current, self._hashed = self._current + 1, 0
            if record is shard.records[-1]:
                self._files[shard.number].close()

    def append(self, name: str, piece: NDArray[Any]) -> None:
        """Write and hash the next piece of the tensor `name`."""
        self.place(name, self._hashed, piece)
        self.hash(name, piece)

    def finish(self, elements: int) -> None:
        """Write the manifests; `elements` is the number of parameters before quantization."""
        if self._current != len(self._order):
            raise ValueError(f"{self._order[self._current]} is incomplete")
        sums = [md5.hexdigest() for md5 in self._sums]
        self._write_manifest(MANIFEST, manifest(self._shards, sums, elements))
        if any(
            r.encoding != "raw" and r.parameter.dtype == "float32"
            for s in self._shards
            for r in s.records
        ):
            self._write_manifest(
                BFLOAT16_MANIFEST, _as_bfloat16(manifest(self._shards, sums, elements))
            )

    def _file(self, shard: Shard) -> IO[bytes]:
        with self._opening:
            if shard.number not in self._files:
                path = self._directory / shard.name
                # Unbuffered: pieces are large, and a full disk shows at the write it stops.
                file = self._stack.enter_context(path.open("xb", buffering=0))
                self._files[shard.number] = file
            return self._files[shard.number]

    def _write_manifest(self, name: str, obj: Any) -> None:
        (self._directory / name).write_text(json.dumps(obj, indent=4), encoding="utf-8")


def _bytes_of(piece: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write everything: an unbuffered write may stop early, for one before a full disk."""
    done = 0
    while done < data.nbytes:
        done += os.pwrite(descriptor, data[done:], offset + done)


def manifest(shards: Sequence[Shard], md5: Sequence[str], elements: int) -> dict[str, Any]:
    """Return `tensor-cache.json`: keys in MLC's order, ParamBytes counting float32 as 4 bytes."""
    parameters = [r.parameter for shard in shards for r in shard.records]
    logical = float(sum(stored_bytes(p, "raw") for p in parameters))
    return {
        "metadata": {
            "ParamSize": len(parameters),
            "ParamBytes": logical,
            "BitsPerParam": logical * 8.0 / elements,
        },
        "records": [
            {
                "dataPath": shard.name,
                "format": "raw-shard",
                "nbytes": shard.nbytes,
                "records": [
                    {
                        "name": r.parameter.name,
                        "shape": list(r.parameter.shape),
                        "dtype": r.parameter.dtype,
                        "format": r.encoding,
                        "nbytes": r.nbytes,
                        "byteOffset": r.offset,
                    }
                    for r in shard.records
                ],
                "md5sum": checksum,
            }
            for shard, checksum in zip(shards, md5, strict=True)
        ],
    }


def _as_bfloat16(obj: dict[str, Any]) -> dict[str, Any]:
    """Describe encoded float32 records as what they are, for runtimes that take bfloat16."""
    for shard in obj["records"]:
        for record in shard["records"]:
            if record["dtype"] == "float32":
                record["format"] = "raw"
                record["dtype"] = "bfloat16"
    return obj
