"""float8 as MLC LLM stores it: casts as TVM's code for CPUs makes them, and scales of whole matrices.

TVM lowers a cast to float8 to integer operations on the float32 bits (its FP8ComputeLegalize pass):
the mantissa is rounded to nearest, ties to even, and the exponent is rebiased. It knows no
subnormal numbers: of the lowest binade the implicit one is dropped, and all below becomes +0. So
results differ from IEEE's in the two smallest binades only. Found by comparing every float16, and
every weight of two converted models, with what the compiled cast gives.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from olmo.codecs.float8_formats import FLOAT8
from olmo.codecs.floats import F32, round_to_float16

_MANTISSA = 23  # bits of float32
_BIAS = 127
_MAGNITUDE = np.uint32(0x7FFFFFFF)

# The scale of activations before anyone has calibrated it. MLC's conversion leaves this number as
# its memory happens to be; its calibration then writes it. 1 divides nothing.
UNCALIBRATED = np.ones(1, np.float32)


def encode_float8(x: F32, dtype: str) -> NDArray[np.uint8]:
    """Return the bits of x in the named dtype; magnitudes above its largest become the largest."""
    form = FLOAT8[dtype]
    drop = np.uint32(_MANTISSA - form.mantissa)
    signs = x.view(np.uint32) & ~_MAGNITUDE
    bits = x.view(np.uint32) & _MAGNITUDE
    np.minimum(bits, np.float32(form.largest).view(np.uint32), out=bits)
    odd = bits >> drop
    odd &= np.uint32(1)
    bits += odd
    bits += np.uint32((1 << (int(drop) - 1)) - 1)
    bits >>= drop
    lowest = np.uint32((_BIAS - form.bias) << form.mantissa)
    small = bits < lowest
    bits -= lowest
    bits |= signs >> np.uint32(24)
    bits[small] = 0
    return bits.astype(np.uint8)


def decode_float8(bits: NDArray[np.uint8], dtype: str) -> F32:
    """Return the values of float8 bits, subnormal numbers included."""
    kind: Any = getattr(ml_dtypes, dtype)
    values: F32 = bits.view(kind).astype(np.float32)
    return values


def matrix_scale(largest: float) -> F32:
    """Return the scale, [1], of a matrix in e4m3 whose largest magnitude is given.

    All is rounded to float16, MLC's model dtype. The scale is never below 1 / (448 * 512), which
    MLC took from TensorRT-LLM.
    """
    limit = FLOAT8["float8_e4m3fn"].largest
    scale = round_to_float16(np.array([largest], np.float32))
    scale /= np.float32(limit)
    smallest = round_to_float16(np.array([1.0 / (limit * 512.0)], np.float32))
    return np.maximum(round_to_float16(scale), smallest, out=scale)
