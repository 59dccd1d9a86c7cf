import numpy as np
import pytest

from olmo.codecs.float8 import decode_float8, encode_float8, matrix_scale
from olmo.codecs.float8_formats import FLOAT8
from olmo.codecs.floats import F32
from olmo.conversion.tensor_cache import DTYPES

FORMATS = list(FLOAT8)


def every_float16() -> F32:
    return np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_normal_numbers_are_rounded_as_ieee_does(name: str) -> None:
    form, x = FLOAT8[name], every_float16()
    x = x[(x >= 2.0 ** (1 - form.bias)) & (x <= form.largest)]
    for signed in (x, -x):
        assert encode_float8(signed, name).tobytes() == signed.astype(DTYPES[name]).tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_too_large_is_the_largest(name: str) -> None:
    largest = FLOAT8[name].largest
    x = np.array([largest, 1.01 * largest, 1e30, -1.5 * largest, np.inf], np.float32)
    expected = [largest, largest, largest, -largest, largest]
    assert decode_float8(encode_float8(x, name), name).tolist() == expected


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_too_small_is_positive_zero(name: str) -> None:
    x = np.array([0.0, -0.0, 2.0**-30, -(2.0**-30), 1e-44], np.float32)
    assert not encode_float8(x, name).any()


def test_the_lowest_binade_lacks_its_implicit_one() -> None:
    step = 2.0**-9
    x = np.array([4 * step, 5 * step, 7.5 * step, -4 * step, -6 * step], np.float32)
    assert encode_float8(x, "float8_e4m3fn").tolist() == [0x00, 0x02, 0x07, 0x80, 0x84]


def test_values_of_the_lowest_binade_are_subnormal() -> None:
    bits = np.array([0x00, 0x01, 0x07, 0x08, 0x81], np.uint8)
    step = 2.0**-9
    expected = [0.0, step, 7 * step, 8 * step, -step]
    assert decode_float8(bits, "float8_e4m3fn").tolist() == expected


@pytest.mark.parametrize(
    ("largest", "scale"),
    [(448.0, 1.0), (0.1, 0.00022315979), (65504.0, 146.25), (1e-7, 4.3511391e-06)],
)
def test_the_scale_of_a_matrix(largest: float, scale: float) -> None:
    found = matrix_scale(largest)
    assert found.dtype == np.float32
    assert found == np.float32(np.float16(found))
    assert found == pytest.approx([scale], rel=1e-7)


def test_a_matrix_of_zeros_has_a_scale() -> None:
    assert matrix_scale(0.0) > 0
