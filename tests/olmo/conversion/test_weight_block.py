from pathlib import Path

import numpy as np
import pytest

from olmo.checkpoints.checkpoint import open_checkpoint
from olmo.codecs.codec import Codec
from olmo.codecs.numpy_codec import NumpyCodecs
from olmo.conversion.weight_block import Buffers, Rows, encode_rows
from olmo.errors import OlmoError
from tests.olmo.encoded import encode
from tests.olmo.sample_checkpoints import config, tensors, write_single, write_torch

CONFIG = config()
VALUES = tensors(CONFIG)
NAME = "model.layers.0.mlp.down_proj.weight"
Q4 = Codec("float16", "float16", 4, 32)
F16 = Codec("float16", "float16")


def test_rows_are_encoded_with_each_codec(tmp_path: Path) -> None:
    transposed = {name: np.asfortranarray(value) for name, value in VALUES.items()}
    write_torch(tmp_path / "strided", transposed)
    write_single(tmp_path / "plain", VALUES)
    for source in ("plain", "strided"):
        with open_checkpoint(tmp_path / source, CONFIG) as found:
            rows = Rows(found[NAME], 5, 9)
            dtypes = {Q4: "float16", F16: "float16"}
            encoded = encode_rows(rows, dtypes, NumpyCodecs(), Buffers())
        for codec in (Q4, F16):
            out, scales, errors = encode(NumpyCodecs(), codec, VALUES[NAME][5:9])
            assert encoded[codec].out.tobytes() == out.tobytes()
            assert np.array_equal(encoded[codec].errors.sums, errors.sums)
            if scales is not None:
                assert np.array_equal(np.asarray(encoded[codec].scales), scales)


def test_the_limit_is_that_of_the_weights_dtype(tmp_path: Path) -> None:
    large = VALUES[NAME].copy()
    large[3, 2] = 65520.0
    write_single(tmp_path / "source", VALUES | {NAME: large})
    with open_checkpoint(tmp_path / "source", CONFIG) as found:
        rows = Rows(found[NAME], 0, 4)
        f32 = Codec("float32", "bfloat16")
        encode_rows(rows, {f32: "float32"}, NumpyCodecs(), Buffers())
        with pytest.raises(OlmoError, match="65520 is beyond float16"):
            encode_rows(rows, {f32: "float32", F16: "float16"}, NumpyCodecs(), Buffers())


def test_buffers_are_used_again() -> None:
    buffers = Buffers()
    first = buffers.take((3, 5), np.dtype(np.float32))
    second = buffers.take((3, 5), np.dtype(np.float32))
    assert not np.shares_memory(first, second)
    buffers.give(first)
    again = buffers.take((15, 2), np.dtype(np.uint16))  # of the same class of sizes
    assert np.shares_memory(first, again)
    assert again.shape == (15, 2)
    assert again.dtype == np.dtype(np.uint16)
    with buffers.lent((3, 5), np.dtype(np.float32)) as lent:
        assert not np.shares_memory(lent, again)
    assert np.shares_memory(lent, buffers.take((3, 5), np.dtype(np.float32)))
