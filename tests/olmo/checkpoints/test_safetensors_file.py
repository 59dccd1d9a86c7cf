import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from olmo.checkpoints.safetensors_file import read_header
from olmo.checkpoints.source_tensor import SourceTensor
from olmo.errors import OlmoError


def header_of(path: Path) -> dict[str, SourceTensor]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_header(descriptor, "f")
    finally:
        os.close(descriptor)


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(encoded) if length is None else length
    return size.to_bytes(8, "little") + encoded + data


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_safetensors_package_writes(tmp_path: Path) -> None:
    values: dict[str, NDArray[Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(4, dtype=np.float16).reshape(2, 2),
        "c": np.arange(3, dtype=np.int64),
    }
    path = tmp_path / "f"
    path.write_bytes(save(values, {"format": "pt"}))
    data = path.read_bytes()
    found = header_of(path)
    assert {name: (t.dtype, t.shape) for name, t in found.items()} == {
        "a": ("float32", (2, 3)),
        "b": ("float16", (2, 2)),
        "c": ("I64", (3,)),
    }
    for name, value in values.items():
        assert data[found[name].offset :].startswith(value.tobytes())


BAD = {
    "too short": (b"123", "f: too short for a safetensors file"),
    "not safetensors": (b"\xff" * 20, "f: not a safetensors file: its header would be"),
    "header cut": (file_of({}, length=50), "f: the header goes beyond the end of the file"),
    "not json": (file_of(b"{,}"), "f: header: not JSON"),
    "not a table": (file_of([1]), "f: the header is not a table of tensors"),
    "duplicate": (file_of(b'{"a": 1, "a": 1}'), "f: header: the key 'a' occurs twice"),
    "no dtype": (file_of({"a": {"shape": [1]}}), "f: tensor 'a': expected dtype, shape"),
    "unknown dtype": (file_of({"a": entry("F12", [1], 0, 1)}), "f: tensor 'a': unknown dtype"),
    "negative shape": (file_of({"a": entry("F32", [-1], 0, 4)}), "f: tensor 'a': bad shape"),
    "boolean shape": (file_of({"a": entry("F32", [True], 0, 4)}), "f: tensor 'a': bad shape"),
    "backward": (file_of({"a": entry("F32", [1], 4, 0)}), "f: tensor 'a': bad data_offsets"),
    "wrong span": (file_of({"a": entry("F32", [2], 0, 4)}, b"1234"), "F32 of shape [2] is 8 bytes"),
    "truncated": (file_of({"a": entry("F32", [2], 0, 8)}, b"1234"), "'a' goes beyond the end"),
    "overlap": (
        file_of({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, b"123456"),
        "f: tensor 'b' overlaps the one before it",
    ),
    "gap": (
        file_of({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"123"),
        "f: tensor 'b' leaves a gap before it",
    ),
    "trailing": (file_of({"a": entry("U8", [1], 0, 1)}, b"123"), "f: 2 bytes after the last"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_refuses_a_broken_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(data)
    with pytest.raises(OlmoError) as caught:
        header_of(path)
    assert message in str(caught.value)


@given(data=st.data())
def test_damage_is_an_error_or_harmless(tmp_path_factory: Any, data: st.DataObject) -> None:
    whole = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.float16)})
    position = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:position]
    else:
        damaged = whole[:position] + data.draw(st.binary(min_size=1, max_size=1))
        damaged += whole[position + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    try:
        found = header_of(path)
    except OlmoError:
        return
    assert len(damaged) == len(whole)
    assert all(0 < t.offset <= len(whole) for t in found.values())
