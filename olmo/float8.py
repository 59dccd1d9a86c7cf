"""float8 as MLC LLM stores it: per-tensor scales, and casts as TVM's code for CPUs makes them.

TVM lowers a cast to float8 to integer operations on the float32 bits (its FP8ComputeLegalize pass):
the mantissa is rounded to nearest, ties to even, and the exponent is rebiased. It knows no
subnormal numbers: of the lowest binade the implicit one is dropped, and all below becomes +0. So
results differ from IEEE's in the two smallest binades only. Found by comparing every float16, and
every weight of two converted models, with what the compiled cast gives.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmo.floats import F32, round_to_float16

_MANTISSA = 23  # bits of float32
_BIAS = 127


@dataclass(frozen=True, slots=True)
class Float8:
    """A float8 format: bits of its mantissa, bias of its exponent, its largest value."""

    mantissa: int
    bias: int
    largest: float


E4M3 = Float8(3, 7, 448.0)
E5M2 = Float8(2, 15, 57344.0)

# Scales are never below this share of the smallest step (MLC took it from TensorRT-LLM).
_SMALLEST_SCALE = 1.0 / (E4M3.largest * 512.0)


def encode_float8(x: F32, form: Float8) -> NDArray[np.uint8]:
    """Return the bits of x, of any shape, whose magnitudes are at most the format's largest."""
    drop = _MANTISSA - form.mantissa
    bits = np.abs(x).view(np.uint32).astype(np.int64)
    rounded = (bits + ((bits >> drop) & 1) + ((1 << (drop - 1)) - 1)) >> drop
    code = rounded - ((_BIAS - form.bias) << form.mantissa)
    signed = code | (np.signbit(x).astype(np.int64) << 7)
    return np.where(code < 0, 0, signed).astype(np.uint8)


def e4m3_scale(largest: float) -> np.float32:
    """Return the scale of a matrix whose largest magnitude, as float16, is `largest`.

    The division is rounded to float16, as all of it is in MLC's model dtype.
    """
    scale = np.array([largest, _SMALLEST_SCALE], np.float32)
    scale[0] /= np.float32(E4M3.largest)
    return np.float32(round_to_float16(scale).max())


def quantize_e4m3(w: F32, scale: np.float32) -> NDArray[np.uint8]:
    """Return the bits of a matrix divided by its scale; w is cast to float16 first."""
    x = round_to_float16(w.copy()) / scale
    limit = np.float32(E4M3.largest)
    return encode_float8(np.clip(x, -limit, limit), E4M3)


def quantize_e5m2(w: F32) -> NDArray[np.uint8]:
    """Return the bits of a matrix without a scale; w is cast to float16 first."""
    limit = np.float32(E5M2.largest)
    return encode_float8(np.clip(round_to_float16(w.copy()), -limit, limit), E5M2)
