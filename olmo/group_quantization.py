"""Group quantization, exactly as MLC LLM computes it: the reference that every kernel must equal.

A matrix w [N, K] is quantized in groups along K. Per group, with the arithmetic of the model dtype:

    scale = max|w| / max_int
    q     = clip(round_half_even(w / scale + max_int), 0, 2 * max_int)

float16 rounds after each operation (cast, scale, division, addition). bfloat16 rounds the cast and
the scale and computes the rest in float32. 0 / 0, so every element of an all-zero group, gives
q = 0. Positions past K hold 0. The value of q is (q - max_int) * scale.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.floats import F32, cast, round_to, round_to_float16
from olmo.quantization import Quantization

U32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Error:
    """How far stored values are from the originals: the largest and the summed distance."""

    largest: float
    total: float
    elements: int


def quantize(w: F32, q: Quantization) -> tuple[U32, NDArray[Any]]:
    """Quantize w [N, K], giving (q_weight [N, q.words(K)] uint32, q_scale [N, q.groups(K)]).

    Scales have the model dtype. KN layouts store the transpose of both. w must be finite and is
    not changed.
    """
    words, scale, _ = quantize_with_error(w, q)
    return words, scale


def quantize_with_error(w: F32, q: Quantization) -> tuple[U32, NDArray[Any], Error]:
    """Quantize as `quantize` does, and tell the error against w."""
    n, k = w.shape
    # One group per column: every operation below then runs over contiguous rows.
    original = _columns(w, q)
    x = round_to(original.copy(), q.model_dtype)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = np.abs(x).max(axis=0) / np.float32(q.max_int)
        round_to(scale, q.model_dtype)
        x /= scale
        if q.model_dtype == "float16":
            round_to_float16(x)
        x += np.float32(q.max_int)
        if q.model_dtype == "float16":
            round_to_float16(x)
        np.rint(x, out=x)
        np.fmax(x, np.float32(0), out=x)  # NaN becomes 0
        np.minimum(x, np.float32(2 * q.max_int), out=x)
        _clear_padding(x, n, k, q)
        words = _pack(x.astype(np.uint32), q)
        distances = np.abs(_values(x, scale, q) - original)
    _clear_padding(distances, n, k, q)
    return (
        np.ascontiguousarray(words.T).reshape(n, -1),
        cast(scale, q.model_dtype).reshape(n, -1),
        _summed(distances, n * k),
    )


def dequantize(q_weight: U32, q_scale: NDArray[Any], q: Quantization, k: int) -> F32:
    """Return the values [N, k] of a quantized matrix in NK layout, as the model dtype holds them.

    q_weight [N, q.words(k)] uint32, q_scale [N, q.groups(k)].
    """
    n = q_weight.shape[0]
    shifts = np.arange(q.per_word, dtype=np.uint32) * np.uint32(q.bits)
    fields = (q_weight[..., None] >> shifts) & np.uint32(2**q.bits - 1)
    x = fields.astype(np.float32).reshape(n, -1, q.group_size)
    with np.errstate(invalid="ignore", over="ignore"):
        x = _values(x, q_scale.astype(np.float32)[..., None], q)
    return np.ascontiguousarray(x.reshape(n, -1)[:, :k])


def error_of(stored: F32, original: F32) -> Error:
    """Return the error of values stored without groups."""
    with np.errstate(invalid="ignore"):
        return _summed(np.abs(stored - original), original.size)


def _columns(w: F32, q: Quantization) -> F32:
    """Return [group_size, N * groups]: each group a column, zeros past K."""
    n, k = w.shape
    if k % q.group_size:
        padded = np.zeros((n, q.groups(k) * q.group_size), np.float32)
        padded[:, :k] = w
        w = padded
    return np.ascontiguousarray(w.reshape(-1, q.group_size).T)


def _pack(x: U32, q: Quantization) -> U32:
    """Pack fields [group_size, M] into words [group_size / per_word, M], the lowest bits first."""
    fields = x.reshape(-1, q.per_word, x.shape[1])
    words = fields[:, 0].copy()
    for i in range(1, q.per_word):
        words |= fields[:, i] << np.uint32(i * q.bits)
    return words


def _values(x: F32, scale: F32, q: Quantization) -> F32:
    """Turn fields x into values, in place."""
    x -= np.float32(q.max_int)
    x *= scale
    return round_to(x, q.model_dtype)


def _clear_padding(x: F32, n: int, k: int, q: Quantization) -> None:
    """Set the elements past K, in the last group of each row, to 0."""
    if tail := k % q.group_size:
        x.reshape(q.group_size, n, -1)[tail:, :, -1] = 0


def _summed(distances: F32, elements: int) -> Error:
    """Sum in whole steps of 2^-24 of the largest distance.

    Sums of integers are exact, so the result does not depend on the order in which the vector units
    of some machine add. At most 2^28 elements.
    """
    largest = float(distances.max(initial=0.0))
    if not math.isfinite(largest):
        return Error(math.inf, math.inf, elements)
    exponent = max(math.frexp(largest)[1], -100) - 24
    steps = np.rint(distances * np.float32(2.0**-exponent))
    return Error(largest, float(steps.sum(dtype=np.float64)) * 2.0**exponent, elements)
