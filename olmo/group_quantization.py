"""Group quantization, exactly as MLC LLM computes it: the reference that every kernel must equal.

A matrix w [N, K] is quantized in groups along K. Per group, with the arithmetic of the model dtype:

    scale = max|w| / max_int
    q     = clip(round_half_even(w / scale + max_int), 0, 2 * max_int)

float16 rounds after each operation (cast, scale, division, addition). bfloat16 rounds the cast and
the scale and computes the rest in float32; for matrices that are stored transposed (KN), MLC divides
by the scale before its rounding. 0 / 0, so every element of an all-zero group, gives
q = 0. Positions past K hold 0. The value of q is (q - max_int) * scale.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.floats import F32, U32, cast, decode_bfloat16, encode_bfloat16, round_to, round_to_float16
from olmo.quantization import Quantization


@dataclass(frozen=True, slots=True)
class Error:
    """How far stored values are from the originals: the largest and the summed distance."""

    largest: float
    total: float
    elements: int


def quantize(w: F32, q: Quantization, *, transposed: bool = False) -> tuple[U32, NDArray[Any]]:
    """Quantize w [N, K], giving (q_weight [N, q.words(K)] uint32, q_scale [N, q.groups(K)]).

    Scales have the model dtype. `transposed` says that the matrix will be stored in KN layout; the
    caller transposes. w must be finite and is not changed.
    """
    words, scale, _ = quantize_with_error(w, q, transposed=transposed)
    return words, scale


class Scratch:
    """Buffers for quantizing block after block without allocating.

    Fresh memory costs a page fault every 4 KiB, which is more than the arithmetic on it. Not for
    use by two threads at a time.
    """

    def __init__(self) -> None:
        self._buffers = [np.empty(0, np.float32) for _ in range(3)]

    def columns(self, shape: tuple[int, int]) -> tuple[F32, F32, F32]:
        """Return three arrays of this shape; they share memory with those of the last call."""
        size = shape[0] * shape[1]
        if self._buffers[0].size < size:
            self._buffers = [np.empty(size, np.float32) for _ in range(3)]
        first, second, third = (buffer[:size].reshape(shape) for buffer in self._buffers)
        return first, second, third


def quantize_with_error(
    w: F32,
    q: Quantization,
    scratch: Scratch | None = None,
    *,
    transposed: bool = False,
    bfloat16_scales: bool = False,
) -> tuple[U32, NDArray[Any], Error]:
    """Quantize as `quantize` does, and tell the error against w.

    With `bfloat16_scales` the error is that of float32 scales stored as bfloat16.
    """
    n, k = w.shape
    columns = (q.group_size, n * q.groups(k))
    original, x, third = (scratch or Scratch()).columns(columns)
    bits = third.view(np.uint32)
    _to_columns(w, original, q)
    np.copyto(x, original)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        round_to(x, q.model_dtype, bits)
        scale = np.abs(x, out=third).max(axis=0) / np.float32(q.max_int)
        exact = scale.copy()
        round_to(scale, q.model_dtype)
        x /= exact if transposed and q.model_dtype == "bfloat16" else scale
        if q.model_dtype == "float16":
            round_to_float16(x, bits)
        x += np.float32(q.max_int)
        if q.model_dtype == "float16":
            round_to_float16(x, bits)
        np.rint(x, out=x)
        np.fmax(x, np.float32(0), out=x)  # NaN becomes 0
        np.minimum(x, np.float32(2 * q.max_int), out=x)
        _clear_padding(x, n, k, q)
        np.copyto(bits, x, casting="unsafe")
        words = _pack(bits, q)
        x -= np.float32(q.max_int)
        x *= _as_stored(scale, q) if bfloat16_scales else scale
        round_to(x, q.model_dtype, bits)
        x -= original
        np.abs(x, out=x)
    _clear_padding(x, n, k, q)
    return (
        np.ascontiguousarray(words.T).reshape(n, -1),
        cast(scale, q.model_dtype).reshape(n, -1),
        _summed(x, n * k),
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
        x -= np.float32(q.max_int)
        x *= q_scale.astype(np.float32)[..., None]
        round_to(x, q.model_dtype)
    return np.ascontiguousarray(x.reshape(n, -1)[:, :k])


def error_of(stored: F32, original: F32) -> Error:
    """Return the error of values stored without groups."""
    with np.errstate(invalid="ignore"):
        distances = stored - original
        return _summed(np.abs(distances, out=distances), original.size)


def _to_columns(w: F32, out: F32, q: Quantization) -> None:
    """Transpose w to [group_size, N * groups]: each group a column, zeros past K.

    All arithmetic then runs over contiguous rows.
    """
    n, k = w.shape
    if k % q.group_size:
        padded = np.zeros((n, q.groups(k) * q.group_size), np.float32)
        padded[:, :k] = w
        w = padded
    np.copyto(out, w.reshape(-1, q.group_size).T)


def _pack(fields: U32, q: Quantization) -> U32:
    """Pack fields [group_size, M] into words [group_size / per_word, M], the lowest bits first.

    The fields are destroyed.
    """
    by_word = fields.reshape(-1, q.per_word, fields.shape[1])
    words = np.zeros((by_word.shape[0], by_word.shape[2]), np.uint32)
    for i in range(q.per_word):
        field = by_word[:, i]
        field <<= np.uint32(i * q.bits)
        words |= field
    return words


def _as_stored(scale: F32, q: Quantization) -> F32:
    return decode_bfloat16(encode_bfloat16(scale)) if q.model_dtype == "float32" else scale


def _clear_padding(x: F32, n: int, k: int, q: Quantization) -> None:
    """Set the elements past K, in the last group of each row, to 0."""
    if tail := k % q.group_size:
        x.reshape(q.group_size, n, -1)[tail:, :, -1] = 0


def _summed(distances: F32, elements: int) -> Error:
    """Sum in whole steps of 2^-24 of the largest distance.

    Sums of integers are exact, so the result does not depend on the order in which the vector units
    of some machine add. At most 2^28 elements; the distances are destroyed.
    """
    largest = float(distances.max(initial=0.0))
    if not math.isfinite(largest):
        return Error(math.inf, math.inf, elements)
    exponent = max(math.frexp(largest)[1], -100) - 24
    distances *= np.float32(2.0**-exponent)
    np.rint(distances, out=distances)
    return Error(largest, float(distances.sum(dtype=np.float64)) * 2.0**exponent, elements)
