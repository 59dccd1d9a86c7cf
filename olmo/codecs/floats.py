"""Rounding of float32 to float16 and bfloat16, in vectorised float32 and integer operations.

numpy converts float16 one element at a time on most machines. Rounding on the float16 *grid* while
staying in float32 gives the same values several times faster. All rounding is to nearest, ties to
even, and does not depend on the machine.
"""

from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]

FLOAT16_MAX = 65504.0
# The smallest float32 that float16 rounds to infinity: halfway between its maximum and 2^16.
FLOAT16_OVERFLOW = 65520.0
BFLOAT16_MAX = float(np.uint32(0x7F7F0000).view(np.float32))
# Likewise for bfloat16.
BFLOAT16_OVERFLOW = float(np.uint32(0x7F7F8000).view(np.float32))

_EXPONENT = np.uint32(0x7F800000)
_FLOAT16_MIN_NORMAL = np.uint32((127 - 14) << 23)
# From 2^e to 1.5 * 2^(e + 13): 13 more in the exponent, the highest bit of the mantissa set.
_FLOAT16_MAGIC = np.uint32((13 << 23) | 0x00400000)


def round_to_float16(x: F32, scratch: U32 | None = None) -> F32:
    """Round in place to the nearest float16 value, kept as float32; infinite where it overflows.

    Adding and subtracting 1.5 * 2^(e + 13), where 2^e is the binade of x (at least 2^-14, below
    which float16 is evenly spaced), drops exactly the bits that float16 lacks. `scratch`, of the
    shape of x, saves an allocation.
    """
    magic = np.empty(x.shape, np.uint32) if scratch is None else scratch
    magnitude = np.abs(x, out=magic.view(np.float32))
    overflow = None
    if magnitude.max(initial=0.0) >= FLOAT16_OVERFLOW:
        overflow = magnitude >= np.float32(FLOAT16_OVERFLOW)
    magic &= _EXPONENT
    np.maximum(magic, _FLOAT16_MIN_NORMAL, out=magic)
    magic += _FLOAT16_MAGIC
    x += magic.view(np.float32)
    x -= magic.view(np.float32)
    if overflow is not None:
        x[overflow] = np.copysign(np.float32(np.inf), x[overflow])
    return x


def round_to_bfloat16(x: F32, scratch: U32 | None = None) -> F32:
    """Round in place to the nearest bfloat16 value, kept as float32; infinite where it overflows.

    x must not hold NaN. `scratch`, of the shape of x, saves an allocation.
    """
    bits = x.view(np.uint32)
    bias = np.right_shift(bits, np.uint32(16), out=scratch)
    bias &= np.uint32(1)
    bias += np.uint32(0x7FFF)
    bits += bias
    bits &= np.uint32(0xFFFF0000)
    return x


def round_to(x: F32, dtype: str, scratch: U32 | None = None) -> F32:
    """Round in place to the values of the named dtype, kept as float32."""
    if dtype == "float16":
        return round_to_float16(x, scratch)
    if dtype == "bfloat16":
        return round_to_bfloat16(x, scratch)
    return x


def overflow_limit(dtype: str) -> float:
    """Return the smallest float32 magnitude that rounds to infinity in the named dtype."""
    return {"float16": FLOAT16_OVERFLOW, "bfloat16": BFLOAT16_OVERFLOW}.get(dtype, float("inf"))


def cast(x: F32, dtype: str) -> NDArray[Any]:
    """Return x in the named dtype: float16, bfloat16 or float32."""
    if dtype == "bfloat16":
        return (
            (round_to_bfloat16(x.copy()).view(np.uint32) >> np.uint32(16))
            .astype("<u2")
            .view(bfloat16)
        )
    return x.astype({"float16": "<f2", "float32": "<f4"}[dtype])


def encode_bfloat16(x: F32, scratch: U32 | None = None) -> NDArray[np.uint16]:
    """Return the bits that MLC's f32-to-bf16 encoding stores: rounded, but truncated at the ends.

    Values of at least the largest bfloat16 are truncated, so that nothing becomes infinite (tvm's
    `contrib/tvmjs.py`). `scratch`, of the shape of x, saves an allocation.
    """
    bits = x.view(np.uint32)
    rounded = np.right_shift(bits, np.uint32(16), out=scratch)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    if max(x.max(initial=0.0), -x.min(initial=0.0)) >= BFLOAT16_MAX:
        large = np.abs(x) >= np.float32(BFLOAT16_MAX)
        rounded[large] = bits[large]
    rounded >>= np.uint32(16)
    return rounded.astype("<u2")


def decode_bfloat16(bits: NDArray[np.uint16]) -> F32:
    """Return bfloat16 bits as float32."""
    return (bits.astype("<u4") << np.uint32(16)).view(np.float32)
