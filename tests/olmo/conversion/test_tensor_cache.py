import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.codecs.floats import encode_bfloat16
from olmo.conversion.tensor_cache import (
    DTYPES,
    SHARD_CAP,
    Encoding,
    Shard,
    Writer,
    is_file_of_cache,
    plan_shards,
)
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.weights import Parameter

PARAMETERS = (
    Parameter("a", (3, 4), "uint32"),
    Parameter("b", (3, 2), "float32"),
    Parameter("c", (5,), "float16"),
    Parameter("d", (2, 2), "bfloat16"),
)


def values_of(parameter: Parameter) -> np.ndarray[Any, Any]:
    count = int(np.prod(parameter.shape))
    return (np.arange(count) + 0.25).astype(DTYPES[parameter.dtype]).reshape(parameter.shape)


def write(directory: Path, encoding: Encoding = "f32-to-bf16") -> Path:
    directory.mkdir()
    with Writer(directory, PARAMETERS, encoding) as writer:
        for parameter in PARAMETERS:
            for row in values_of(parameter):
                encoded = parameter.dtype == "float32" and encoding == "f32-to-bf16"
                writer.append(parameter.name, encode_bfloat16(row) if encoded else row)
        writer.finish(elements=20)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def sharded(sizes: list[int], cap: int) -> list[list[tuple[int, int]]]:
    """The rule of tvm's TensorCacheShardingManager, as (tensor, offset) by shard number."""
    shards: list[list[tuple[int, int]]] = []
    pending: list[tuple[int, int]] = []
    nbytes = 0
    for tensor, size in enumerate(sizes):
        if nbytes + size >= cap:
            if size * 2 >= cap:
                shards.append([(tensor, 0)])
                continue
            if nbytes:
                shards.append(pending)
                pending, nbytes = [], 0
        pending.append((tensor, nbytes))
        nbytes += size
    if nbytes:
        shards.append(pending)
    return shards


@given(st.lists(st.integers(1, 130), max_size=40), st.integers(1, 120))
def test_shard_layout_is_tvms(sizes: list[int], cap: int) -> None:
    parameters = [Parameter(str(i), (size,), "float8_e5m2") for i, size in enumerate(sizes)]
    shards = plan_shards(parameters, "raw", cap)
    assert [
        [(int(record.parameter.name), record.offset) for record in shard.records]
        for shard in shards
    ] == sharded(sizes, cap)
    assert [shard.number for shard in shards] == list(range(len(shards)))


def test_a_large_tensor_leaves_the_open_shard_open() -> None:
    parameters = [
        Parameter("small", (10,), "float32"),
        Parameter("large", (SHARD_CAP,), "float16"),
        Parameter("also small", (10,), "float32"),
    ]
    shards = plan_shards(parameters, "f32-to-bf16")
    names = [[record.parameter.name for record in shard.records] for shard in shards]
    assert names == [["large"], ["small", "also small"]]
    assert [shard.nbytes for shard in shards] == [2 * SHARD_CAP, 40]


def test_manifest_has_mlcs_form(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    text = (out / "tensor-cache.json").read_text()
    shard = (out / "params_shard_0.bin").read_bytes()
    names = ["a", "b", "c", "d"]
    expected: dict[str, Any] = {
        "metadata": {"ParamSize": 4, "ParamBytes": 90.0, "BitsPerParam": 36.0},
        "records": [
            {
                "dataPath": "params_shard_0.bin",
                "format": "raw-shard",
                "nbytes": 78,
                "records": [
                    {
                        "name": name,
                        "shape": shape,
                        "dtype": dtype,
                        "format": "f32-to-bf16",
                        "nbytes": nbytes,
                        "byteOffset": offset,
                    }
                    for name, shape, dtype, nbytes, offset in zip(
                        names,
                        [[3, 4], [3, 2], [5], [2, 2]],
                        ["uint32", "float32", "float16", "bfloat16"],
                        [48, 12, 10, 8],
                        [0, 48, 60, 70],
                        strict=True,
                    )
                ],
                "md5sum": hashlib.md5(shard).hexdigest(),  # noqa: S324  the format's checksum
            }
        ],
    }
    assert text == json.dumps(expected, indent=4)
    record = expected["records"][0]["records"][1]
    record["format"], record["dtype"] = "raw", "bfloat16"
    assert (out / "tensor-cache-b16.json").read_text() == json.dumps(expected, indent=4)


def test_raw_encoding_keeps_float32(tmp_path: Path) -> None:
    out = write(tmp_path / "out", "raw")
    assert not (out / "tensor-cache-b16.json").exists()
    cache = read_tensor_cache(out)
    assert cache.tensors["b"].nbytes == 24
    assert np.array_equal(cache.read("b"), values_of(PARAMETERS[1]))


@pytest.mark.parametrize("encoding", ["raw", "f32-to-bf16"])
def test_written_tensors_read_back(tmp_path: Path, encoding: Encoding) -> None:
    cache = read_tensor_cache(write(tmp_path / "out", encoding))
    cache.verify()
    assert list(cache.tensors) == ["a", "b", "c", "d"]
    for parameter, (name, values) in zip(PARAMETERS, cache.items(), strict=True):
        assert name == parameter.name
        assert values.dtype == DTYPES[parameter.dtype]
        assert np.array_equal(values, values_of(parameter))


def test_pieces_may_be_placed_in_any_order(tmp_path: Path) -> None:
    ordered = contents(write(tmp_path / "ordered"))
    out = tmp_path / "placed"
    out.mkdir()
    stored: dict[str, np.ndarray[Any, Any]] = {p.name: values_of(p) for p in PARAMETERS}
    stored["b"] = encode_bfloat16(stored["b"])
    with Writer(out, PARAMETERS) as writer:
        for name, values in reversed(stored.items()):
            half = values.nbytes // 2
            writer.place(name, half, values.reshape(-1).view(np.uint8)[half:])
            writer.place(name, 0, values.reshape(-1).view(np.uint8)[:half])
        for name, values in stored.items():
            writer.hash(name, values)
        writer.finish(elements=20)
    assert contents(out) == ordered


def test_pieces_must_come_in_order(tmp_path: Path) -> None:
    with Writer(tmp_path, PARAMETERS) as writer:
        with pytest.raises(ValueError, match="b is out of order"):
            writer.append("b", np.zeros(1, np.uint16))
        with pytest.raises(ValueError, match="a is too long"):
            writer.append("a", np.zeros(13, np.uint32))
        with pytest.raises(ValueError, match="a is too long"):
            writer.place("a", 44, np.zeros(2, np.uint32))
        writer.append("a", np.zeros(11, np.uint32))
        with pytest.raises(ValueError, match="a is incomplete"):
            writer.finish(1)


def test_an_empty_plan_has_no_shards() -> None:
    assert plan_shards([], "raw") == ()
    assert Shard(3, ()).name == "params_shard_3.bin"


def test_names_of_the_directorys_files() -> None:
    ours = ["tensor-cache.json", "tensor-cache-b16.json", "params_shard_12.bin"]
    assert all(is_file_of_cache(name) for name in ours)
    assert not any(is_file_of_cache(name) for name in ["mlc-chat-config.json", "params_shard_"])
