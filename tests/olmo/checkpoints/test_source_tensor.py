import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

from olmo.checkpoints.source_tensor import DTYPES, SourceTensor
from olmo.codecs.floats import F32
from olmo.errors import OlmoError


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "f").write_bytes(b"")
    opened = os.open(tmp_path / "f", os.O_RDWR)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_rows_as_float32(descriptor: int, dtype: str) -> None:
    values = np.arange(-10, 10, dtype=np.float32).reshape(5, 4) / 4
    kinds = {"float32": np.float32, "float16": np.float16, "bfloat16": bfloat16}
    os.write(descriptor, b"header!" + values.astype(kinds[dtype]).tobytes())
    tensor = SourceTensor("t", dtype, (5, 4), "f", descriptor, 7)
    out = np.empty((2, 4), np.float32)
    assert np.array_equal(tensor.read_rows(1, 3, out), values[1:3])
    assert np.array_equal(out, values[1:3])


def test_a_file_that_shrank_is_an_error(descriptor: int) -> None:
    os.write(descriptor, bytes(20))
    tensor = SourceTensor("t", "float32", (2, 4), "f", descriptor, 0)
    with pytest.raises(OlmoError, match="f: the file ends within tensor 't'"):
        tensor.read_rows(0, 2, np.empty((2, 4), np.float32))


def test_rows_may_have_a_reader_of_their_own() -> None:
    def ones(start: int, stop: int, out: F32) -> None:
        assert (start, stop) == (1, 3)
        out[:] = 1

    tensor = SourceTensor("t", "Q4_K", (5, 4), "f", -1, 0, reader=ones)
    assert np.array_equal(tensor.read_rows(1, 3, np.zeros((2, 4), np.float32)), np.ones((2, 4)))


@pytest.mark.parametrize(
    ("dtype", "strides", "plain", "is_weight"),
    [
        ("float32", None, True, True),
        ("bfloat16", (4, 1), True, True),
        ("float16", (1, 5), False, True),
        ("I64", None, False, False),
    ],
)
def test_what_a_tensor_is(
    dtype: str, strides: tuple[int, ...] | None, plain: bool, is_weight: bool
) -> None:
    tensor = SourceTensor("t", dtype, (5, 4), "f", -1, 0, strides)
    assert (tensor.plain, tensor.is_weight) == (plain, is_weight)
    read = SourceTensor("t", dtype, (5, 4), "f", -1, 0, strides, lambda *_: None)
    assert (read.plain, read.is_weight) == (False, True)
