"""Group quantization of whole matrices, exactly as MLC LLM computes it: see `olmo.codecs.numpy_codec`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.codec import Codec, Dtype
from olmo.codecs.floats import F32, U32
from olmo.codecs.numpy_codec import STORED, NumpyCodecs
from olmo.conversion.tensor_cache import DTYPES
from olmo.quantization import Quantization


def group_codec(q: Quantization, stored: Dtype, *, transposed: bool) -> Codec:
    """Return how a group quantization stores a matrix, with scales `stored` in the file.

    MLC divides matrices that are stored transposed (KN) by scales before their rounding to
    bfloat16.
    """
    exact = transposed and q.model_dtype == "bfloat16"
    return Codec(q.model_dtype, stored, q.bits, q.group_size, exact_divisor=exact)


def quantize(w: F32, q: Quantization, *, transposed: bool = False) -> tuple[U32, NDArray[Any]]:
    """Quantize w [N, K], giving (q_weight [N, q.words(K)] uint32, q_scale [N, q.groups(K)]).

    Scales have the model dtype. `transposed` says that the matrix will be stored in KN layout; the
    caller transposes. w must be finite and is not changed.
    """
    n, k = w.shape
    codec = group_codec(q, q.model_dtype, transposed=transposed)
    words = np.empty((n, q.words(k)), np.uint32)
    scales = np.empty((n, q.groups(k)), STORED[codec.stored])
    NumpyCodecs().encode(codec, w, words, scales)
    return words, scales.view(DTYPES[q.model_dtype])


def dequantize(q_weight: U32, q_scale: NDArray[Any], q: Quantization, k: int) -> F32:
    """Return the values [N, k] of a quantized matrix in NK layout: integers times their scale.

    q_weight [N, q.words(k)] uint32, q_scale [N, q.groups(k)]. Nothing is rounded to the model
    dtype: float32 holds the product of a few bits with a scale of a narrower dtype exactly.
    """
    n = q_weight.shape[0]
    shifts = np.arange(q.per_word, dtype=np.uint32) * np.uint32(q.bits)
    fields = (q_weight[..., None] >> shifts) & np.uint32(2**q.bits - 1)
    x = fields.astype(np.float32).reshape(n, -1, q.group_size)
    x -= np.float32(q.max_int)
    x *= q_scale.astype(np.float32)[..., None]
    return np.ascontiguousarray(x.reshape(n, -1)[:, :k])
