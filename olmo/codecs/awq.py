"""AWQ's 4-bit weights, layout "gemm": the reference in numpy.

A linear is stored transposed, [in, out]: eight outputs to a 32-bit word, their nibbles interleaved
as AWQ's CUDA kernels want them, and for each group of `group_size` inputs a zero point (packed
likewise) and a float16 scale. Weight = (value - zero) * scale. Source: AutoAWQ's `WQLinear_GEMM`.
"""

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]

PER_WORD = 8
MAX_VALUE = 15
# The bit at which each of the eight elements of a word begins.
_SHIFTS = np.array([4 * (i % 2 * 4 + i // 2) for i in range(PER_WORD)], np.uint32)


def unpack(words: U32) -> NDArray[np.uint8]:
    """Return the values [..., N], 0 to 15, of packed words [..., N / 8]."""
    values = (words[..., None] >> _SHIFTS) & np.uint32(MAX_VALUE)
    return values.astype(np.uint8).reshape(*words.shape[:-1], -1)


def pack(values: NDArray[np.uint8]) -> U32:
    """Return the words [..., N / 8] of values [..., N], 0 to 15; N is a multiple of 8."""
    groups = values.reshape(*values.shape[:-1], -1, PER_WORD).astype(np.uint32)
    words: U32 = np.bitwise_or.reduce(groups << _SHIFTS, axis=-1)
    return words


def dequantize(qweight: U32, qzeros: U32, scales: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the weights [out, in] in float16, as a library computes them.

    qweight [in, out / 8] and qzeros [groups, out / 8] uint32, scales [groups, out] float16. The
    difference is exact; the product rounds once.
    """
    group_size = qweight.shape[0] // scales.shape[0]
    zeros = np.repeat(unpack(qzeros).astype(np.float16), group_size, axis=0)
    difference = unpack(qweight).astype(np.float16) - zeros
    return (difference * np.repeat(scales, group_size, axis=0)).T
