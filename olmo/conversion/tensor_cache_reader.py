"""Reads MLC's weight directory, whoever wrote it; the manifest is untrusted and checked first."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.floats import decode_bfloat16
from olmo.conversion.tensor_cache import DTYPES, MANIFEST
from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.weights import Parameter

_AGAIN = "convert the weights again"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies; `is_bfloat16` if it is float32 stored as bfloat16."""

    parameter: Parameter
    file: Path
    offset: int
    nbytes: int
    is_bfloat16: bool


@dataclass(frozen=True, slots=True)
class TensorCache:
    """An opened weight directory: its tensors by name, in the order of the manifest."""

    directory: Path
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]
    md5: Mapping[Path, str]

    def read(self, name: str) -> NDArray[Any]:
        """Return a tensor in its own dtype and shape; float32 stored as bfloat16 is decoded.

        Raises:
            OlmoError: no such tensor, or its shard cannot be read.
        """
        stored = self.tensors.get(name)
        if stored is None:
            raise OlmoError(f"{self.directory / MANIFEST}: no tensor {name!r}")
        dtype = np.dtype("<u2") if stored.is_bfloat16 else DTYPES[stored.parameter.dtype]
        data = np.empty(stored.nbytes // dtype.itemsize, dtype)
        try:
            with stored.file.open("rb", buffering=0) as file:
                file.seek(stored.offset)
                count = file.readinto(data.view(np.uint8).data)
        except OSError as error:
            raise OlmoError(f"{stored.file}: {error.strerror}", _AGAIN) from None
        if count != stored.nbytes:
            raise OlmoError(f"{stored.file}: ends within tensor {name!r}", _AGAIN)
        values = decode_bfloat16(data) if stored.is_bfloat16 else data
        return values.reshape(stored.parameter.shape)

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield each tensor's name and values, in order, one in memory at a time."""
        for name in self.tensors:
            yield name, self.read(name)

    def verify(self) -> None:
        """Hold every shard against its md5 in the manifest.

        Raises:
            OlmoError: a shard's bytes have changed.
        """
        for file, expected in self.md5.items():
            with file.open("rb") as opened:
                found = hashlib.file_digest(
                    opened, lambda: hashlib.md5(usedforsecurity=False)
                ).hexdigest()
            if found != expected:
                raise OlmoError(f"{file}: md5 is {found}, the manifest says {expected}", _AGAIN)


def read_tensor_cache(directory: Path) -> TensorCache:
    """Open a weight directory, checking its manifest and the sizes of its shards.

    Raises:
        OlmoError: no manifest, a malformed one, a path that leaves the directory, or a shard that
            is absent or has another size.
    """
    path = directory / MANIFEST
    if not path.exists():
        old = directory / "ndarray-cache.json"
        hint = "it has the older ndarray-cache.json" if old.exists() else None
        raise OlmoError(f"{directory}: no {MANIFEST}", hint or "is this a converted model?")
    obj = read_json(path)
    try:
        metadata, shards = dict(obj["metadata"]), list(obj["records"])
        tensors: dict[str, StoredTensor] = {}
        md5: dict[Path, str] = {}
        for shard in shards:
            if shard["format"] != "raw-shard":
                raise OlmoError(f"{path}: unknown shard format {shard['format']!r}")
            file = _shard_file(directory, shard["dataPath"], shard["nbytes"])
            md5[file] = str(shard["md5sum"])
            for record in shard["records"]:
                stored = _record(record, file, shard["nbytes"])
                if stored.parameter.name in tensors:
                    raise OlmoError(f"{path}: tensor {stored.parameter.name!r} occurs twice")
                tensors[stored.parameter.name] = stored
    except (KeyError, TypeError, ValueError) as error:
        raise OlmoError(f"{path}: malformed: {error!r}", _AGAIN) from None
    return TensorCache(directory, tensors, metadata, md5)


def _shard_file(directory: Path, name: str, nbytes: int) -> Path:
    manifest = directory / MANIFEST
    if not name or "/" in name or "\\" in name or "\0" in name or name in {".", ".."}:
        raise OlmoError(f"{manifest}: the shard {name!r} lies outside the directory")
    file = directory / name
    try:
        size = file.stat().st_size
    except OSError:
        raise OlmoError(f"{manifest}: names {name}, which is not there", _AGAIN) from None
    if size != nbytes:
        raise OlmoError(f"{file}: has {size} bytes, the manifest says {nbytes}", _AGAIN)
    return file


def _record(record: Mapping[str, Any], file: Path, shard_bytes: int) -> StoredTensor:
    name, dtype, encoding = record["name"], record["dtype"], record["format"]
    shape, nbytes, offset = tuple(record["shape"]), record["nbytes"], record["byteOffset"]
    if dtype not in DTYPES or encoding not in {"raw", "f32-to-bf16"}:
        raise OlmoError(
            f"{file}: tensor {name!r} has unknown dtype {dtype!r} or format {encoding!r}"
        )
    is_bfloat16 = dtype == "float32" and encoding == "f32-to-bf16"
    itemsize = 2 if is_bfloat16 else DTYPES[dtype].itemsize
    if not all(type(n) is int and n >= 0 for n in (*shape, nbytes, offset)):
        raise OlmoError(f"{file}: tensor {name!r} has a bad shape, size or offset")
    if math.prod(shape) * itemsize != nbytes or offset + nbytes > shard_bytes:
        raise OlmoError(f"{file}: tensor {name!r} does not fit its shard", _AGAIN)
    return StoredTensor(Parameter(name, shape, dtype), file, offset, nbytes, is_bfloat16)
