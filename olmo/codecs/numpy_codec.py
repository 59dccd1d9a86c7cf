"""The codecs in numpy: the definition that every kernel equals bit by bit.

A matrix w [N, K] is quantized in groups along K as MLC LLM does. Per group, with the arithmetic of
the codec's dtype:

    scale = max|w| / max_int
    q     = clip(round_half_even(w / scale + max_int), 0, 2 * max_int)

float16 rounds after each operation (cast, scale, division, addition). bfloat16 rounds the cast and
the scale and computes the rest in float32; `exact_divisor` divides by the scale before its
rounding. 0 / 0, so every element of an all-zero group, gives q = 0. Positions past K hold 0. The
value of q is (q - max_int) * scale, with the scale as the file keeps it.

Matrices in float8 (see `olmo.codecs.float8`) are cast to float16 first, and divided by their scale, if
they have one, in float32. The value of q is then q * scale, with the scale as the file keeps it.

Errors are summed in an order that does not depend on the machine: in each group (or each 32
elements, where there are none) lane i adds up elements i, i + 8, i + 16 … in float32; these sums
are added group after group in float64, and at the end of the row neighbouring lanes, three times.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.codec import LANES, Codec, Dtype
from olmo.codecs.float8 import decode_float8, encode_float8
from olmo.codecs.float8_formats import FLOAT8
from olmo.codecs.floats import (
    F32,
    U32,
    decode_bfloat16,
    encode_bfloat16,
    round_to,
    round_to_bfloat16,
    round_to_float16,
)
from olmo.codecs.row_errors import RowErrors

STORED: dict[Dtype, np.dtype[Any]] = {
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
    "float8_e4m3fn": np.dtype(np.uint8),
    "float8_e5m2": np.dtype(np.uint8),
    "uint32": np.dtype("<u4"),
}


class NumpyCodecs:
    """Codecs for machines without kernels."""

    def widen(self, dtype: Dtype, source: NDArray[np.uint16], out: F32) -> None:
        """Write float16 or bfloat16 bits as float32 to `out`, of the same size."""
        if dtype == "bfloat16":
            wide = out.view(np.uint32)
            np.copyto(wide, source)
            wide <<= np.uint32(16)
        else:
            np.copyto(out, source.view("<f2"))

    def encode(
        self, codec: Codec, w: F32, out: NDArray[Any], scales: NDArray[Any] | None
    ) -> RowErrors:
        """Write the rows of w [N, K] to `out`, and the scales of groups to `scales`.

        `out` is [N, K] in the stored dtype (bfloat16 as uint16, float8 as uint8) or [N, words]
        uint32, `scales` [N, groups] in the stored dtype. Of a codec with one scale for the whole
        matrix, `scales` is that scale, [1] float32, and is read. w is not changed. What is written
        for a NaN, an infinity or a value beyond the codec's dtype has no meaning; the magnitudes
        tell of it.
        """
        padded = _in_groups(w, codec)
        with np.errstate(all="ignore"):
            if codec.bits:
                fields, scale = _quantized(padded, codec)
                _clear_padding(fields, w.shape[1], codec)
                out[...] = _packed(fields, codec)
                if scales is not None:
                    scales[...] = _encoded(scale, codec)
                values = _dequantized(fields, _kept(scale, codec), codec)
            else:
                encoded = _encoded_values(padded, codec, scales)
                out[...] = encoded.reshape(len(w), -1)[:, : w.shape[1]]
                values = _decoded(encoded, codec, scales)
            distances = np.abs(values - padded).reshape(*padded.shape[:2], -1, LANES)
            _clear_padding(distances.reshape(padded.shape), w.shape[1], codec)
            return RowErrors(
                _sums(distances), distances.max(axis=(1, 2, 3), initial=0.0), _magnitudes(w)
            )


def _in_groups(w: F32, codec: Codec) -> F32:
    """Return w as [N, groups, group_size], with zeros past K."""
    n, k = w.shape
    padded = np.zeros((n, codec.groups(k) * codec.group_size), np.float32)
    padded[:, :k] = w
    return padded.reshape(n, -1, codec.group_size)


def _quantized(w: F32, codec: Codec) -> tuple[U32, F32]:
    """Return the quantized values of each group, and its rounded scale."""
    x = _rounded(w, codec.dtype)
    exact = np.abs(x).max(axis=-1) / np.float32(codec.max_int)
    scale = _rounded(exact, codec.dtype)
    x /= (exact if codec.exact_divisor else scale)[..., None]
    if codec.dtype == "float16":
        round_to_float16(x)
    x += np.float32(codec.max_int)
    if codec.dtype == "float16":
        round_to_float16(x)
    np.fmax(x, np.float32(0), out=x)  # NaN becomes 0
    np.minimum(x, np.float32(2 * codec.max_int), out=x)
    return np.rint(x).astype(np.uint32), scale


def _packed(fields: U32, codec: Codec) -> U32:
    """Pack fields into words [N, words], the lowest bits first."""
    by_word = fields.reshape(len(fields), -1, codec.per_word)
    shifts = np.arange(codec.per_word, dtype=np.uint32) * np.uint32(codec.bits)
    return np.asarray(np.bitwise_or.reduce(by_word << shifts, axis=-1), np.uint32)


def _dequantized(fields: U32, scale: F32, codec: Codec) -> F32:
    values = fields.astype(np.float32) - np.float32(codec.max_int)
    values *= scale[..., None]
    return round_to(values, codec.dtype)


def _encoded(x: F32, codec: Codec) -> NDArray[Any]:
    """Return as stored what is rounded to the codec's dtype."""
    if codec.stored == "float16":
        return x.astype("<f2")
    if codec.stored == "bfloat16":
        return encode_bfloat16(x)
    return x


def _encoded_values(w: F32, codec: Codec, scale: F32 | None) -> NDArray[Any]:
    """Return as stored what is not in groups; numpy's own cast keeps the sign of zeros."""
    if codec.stored in FLOAT8:
        x = _rounded(w, codec.dtype)
        if scale is not None:
            x /= scale
        return encode_float8(x, codec.stored)
    return _encoded(w if codec.dtype == "float16" else _rounded(w, codec.dtype), codec)


def _decoded(stored: NDArray[Any], codec: Codec, scale: F32 | None) -> F32:
    if codec.stored in FLOAT8:
        values = decode_float8(stored, codec.stored)
        return values if scale is None else values * _rounded(scale, codec.scale)
    return decode_bfloat16(stored) if codec.stored == "bfloat16" else stored.astype(np.float32)


def _kept(scale: F32, codec: Codec) -> F32:
    """Return scales as the file keeps them."""
    return round_to_bfloat16(scale.copy()) if codec.stored == "bfloat16" else scale


def _rounded(x: F32, dtype: Dtype) -> F32:
    return round_to(x.copy(), dtype)


def _clear_padding(x: NDArray[Any], k: int, codec: Codec) -> None:
    """Set what is past K, in the last group of each row, to 0."""
    if tail := k % codec.group_size:
        x[:, -1, tail:] = 0


def _sums(distances: F32) -> NDArray[np.float64]:
    """Sum [N, groups, vectors, LANES] over all but the rows."""
    lanes = distances[:, :, 0]
    for i in range(1, distances.shape[2]):
        lanes = lanes + distances[:, :, i]
    sums = np.add.accumulate(lanes.astype(np.float64), axis=1)[:, -1]
    while sums.shape[1] > 1:
        sums = sums[:, 0::2] + sums[:, 1::2]
    return np.ascontiguousarray(sums[:, 0])


def _magnitudes(w: F32) -> NDArray[np.int32]:
    bits = np.ascontiguousarray(w).view(np.int32) & np.int32(0x7FFFFFFF)
    return np.asarray(bits.max(axis=1, initial=0), np.int32)
