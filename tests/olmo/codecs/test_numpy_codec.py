import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo.codecs.codec import CODECS, Codec
from olmo.codecs.float8_formats import FLOAT8
from olmo.codecs.floats import F32, decode_bfloat16, round_to
from olmo.codecs.numpy_codec import STORED, NumpyCodecs
from olmo.codecs.row_errors import largest_of, total_of
from olmo.conversion.tensor_cache import DTYPES
from tests.olmo.encoded import MATRIX_SCALE, encode
from tests.olmo.matrices import matrices

CASTS = [codec for codec in CODECS if not codec.bits]
GROUPS = [codec for codec in CODECS if codec.bits]


def values(codec: Codec, w: F32) -> F32:
    """What the codec's output stands for, element by element."""
    out, scales, _ = encode(NumpyCodecs(), codec, w)
    if codec.stored in FLOAT8:
        found = out.view(DTYPES[codec.stored]).astype(np.float32)
        factor = np.array([MATRIX_SCALE if codec.scale else 1], np.float32)
        return found * round_to(factor, codec.scale)
    if scales is None:
        return decode_bfloat16(out) if codec.stored == "bfloat16" else out.astype(np.float32)
    kept = decode_bfloat16(scales) if codec.stored == "bfloat16" else scales.astype(np.float32)
    found = np.empty_like(w)
    for (row, column), _ in np.ndenumerate(w):
        word = int(out[row, column // codec.per_word])
        field = word >> (column % codec.per_word * codec.bits) & (2**codec.bits - 1)
        scale = kept[row, column // codec.group_size]
        found[row, column] = np.float32(field - codec.max_int) * scale
    if codec.dtype == "float16":
        with np.errstate(over="ignore"):
            return found.astype(np.float16).astype(np.float32)
    if codec.dtype == "bfloat16":
        cast = Codec("bfloat16", "bfloat16")
        return values(cast, found)
    return found


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@settings(max_examples=25, deadline=None)
@given(w=matrices())
def test_errors_are_distances_to_what_is_stored(codec: Codec, w: F32) -> None:
    before = w.copy()
    _, _, errors = encode(NumpyCodecs(), codec, w)
    assert np.array_equal(w, before)
    distances = np.abs(values(codec, w) - w)
    assert np.array_equal(errors.largest, distances.max(axis=1))
    exact = [math.fsum(row.tolist()) for row in distances]
    assert errors.sums == pytest.approx(exact, rel=1e-6, abs=1e-44)
    assert errors.magnitude == float(np.abs(w).max())


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_rows_do_not_depend_on_each_other(codec: Codec) -> None:
    w = (np.random.default_rng(3).standard_normal((6, 90)) * 0.02).astype(np.float32)
    out, scales, errors = encode(NumpyCodecs(), codec, w)
    parts = [encode(NumpyCodecs(), codec, w[:1]), encode(NumpyCodecs(), codec, w[1:])]
    assert b"".join(part[0].tobytes() for part in parts) == out.tobytes()
    if scales is not None:
        assert b"".join(part[1].tobytes() for part in parts if part[1] is not None) == (
            scales.tobytes()
        )
    whole, both = [errors], [part[2] for part in parts]
    assert total_of(whole) == total_of(both) == total_of(reversed(both))
    assert largest_of(whole) == largest_of(both)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_magnitudes_tell_what_is_no_number(codec: Codec, value: float) -> None:
    w = np.ones((2, 70), np.float32)
    w[1, 69] = value
    _, _, errors = encode(NumpyCodecs(), codec, w)
    assert errors.magnitudes[0] == np.float32(1).view(np.int32)
    assert not math.isfinite(errors.magnitude)


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=40))
def test_widening_keeps_the_value(bits: list[int]) -> None:
    source = np.array(bits, np.uint16)
    out = np.empty(len(bits), np.float32)
    NumpyCodecs().widen("float16", source, out)
    assert np.array_equal(out, source.view(np.float16).astype(np.float32), equal_nan=True)
    NumpyCodecs().widen("bfloat16", source, out)
    assert out.tobytes() == decode_bfloat16(source).tobytes()


def test_dtypes_of_files_are_little_endian() -> None:
    assert all(dtype.str[0] in "<|=" for dtype in STORED.values())
