import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from olmo.codecs.floats import (
    BFLOAT16_MAX,
    F32,
    cast,
    decode_bfloat16,
    encode_bfloat16,
    overflow_limit,
    round_to,
    round_to_float16,
)

FLOATS = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40)


def array(values: list[float]) -> F32:
    return np.array(values, np.float32)


def reference(x: F32, dtype: type) -> F32:
    with np.errstate(over="ignore"):
        return x.astype(dtype).astype(np.float32)


@given(FLOATS)
def test_round_to_float16_is_numpys_conversion(values: list[float]) -> None:
    x = array(values)
    expected = reference(x, np.float16)
    assert np.array_equal(round_to_float16(x), expected)


def test_round_to_float16_on_every_float16_and_the_ties_between() -> None:
    finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (finite[:-1] + finite[1:]) / np.float32(2)
    far = np.float32(1e9)
    for x in (finite, ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, far)):
        for signed in (x.astype(np.float32), -x.astype(np.float32)):
            expected = reference(signed, np.float16)
            assert np.array_equal(round_to_float16(signed), expected)


@given(FLOATS)
def test_round_to_bfloat16_is_ml_dtypes_conversion(values: list[float]) -> None:
    x = array(values)
    expected = reference(x, bfloat16)
    finite = np.isfinite(x)
    assert np.array_equal(round_to(x.copy(), "bfloat16")[finite], expected[finite])


@given(FLOATS)
def test_cast_gives_the_dtypes_own_values(values: list[float]) -> None:
    x = array(values)[np.isfinite(array(values))]
    with np.errstate(over="ignore"):
        assert cast(x, "float16").tobytes() == x.astype(np.float16).tobytes()
        assert cast(x, "bfloat16").tobytes() == x.astype(bfloat16).tobytes()
    assert cast(x, "float32").tobytes() == x.tobytes()


@given(FLOATS)
def test_f32_to_bf16_rounds_to_even_and_truncates_at_the_ends(values: list[float]) -> None:
    x = array(values)
    encoded = encode_bfloat16(x)
    for value, bits in zip(x, encoded, strict=True):
        u = int(np.float32(value).view(np.uint32))
        if abs(value) < BFLOAT16_MAX:
            u += ((u >> 16) & 1) + 0x7FFF
        assert bits == u >> 16
    assert np.array_equal(encode_bfloat16(decode_bfloat16(encoded)), encoded)


def test_f32_to_bf16_makes_no_infinity() -> None:
    largest = np.array([3.4028235e38, -3.4028235e38], np.float32)
    assert list(encode_bfloat16(largest)) == [0x7F7F, 0xFF7F]


@pytest.mark.parametrize(("dtype", "numpy"), [("float16", np.float16), ("bfloat16", bfloat16)])
def test_overflow_limit_is_the_smallest_that_becomes_infinite(dtype: str, numpy: type) -> None:
    limit = np.float32(overflow_limit(dtype))
    below = np.nextafter(limit, np.float32(0))
    assert np.isinf(reference(array([float(limit)]), numpy)).all()
    assert np.isfinite(reference(array([float(below)]), numpy)).all()


def test_rounding_leaves_float32_alone() -> None:
    x = array([0.1, -3e38])
    assert np.array_equal(round_to(x.copy(), "float32"), x)
    assert overflow_limit("float32") == float("inf")
