"""The weights of a converted directory as a library computes with them: dequantized, in numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo import awq
from olmo.config import OLMoConfig
from olmo.floats import F32
from olmo.group_quantization import dequantize
from olmo.quantization import Quantization
from olmo.tensor_cache_reader import TensorCache
from olmo.weights import Weight, is_quantized, is_transposed, stored, weights


def dequantized(
    cache: TensorCache, config: OLMoConfig, quantization: Quantization, name: str
) -> NDArray[Any]:
    """Return the matrix [out, in] of this name, without `.weight`, as libraries compute with it.

    That is in the model dtype, but for float8 weights, whose products with a scale are float32.

    Raises:
        OlmoError: the directory lacks a tensor that stores it, or a shard cannot be read.
    """
    (weight,) = (w for w in weights(config) if w.name == name)
    if not is_quantized(weight, quantization):
        return cache.read(f"{name}.weight")
    if quantization.kind == "awq":
        packed, zeros, scales = (cache.read(p.name) for p in stored(weight, quantization))
        return awq.dequantize(packed, zeros, scales)
    if quantization.kind == "fp8":
        return _float8(cache, weight, quantization)
    return _group(cache, weight, quantization)


def _float8(cache: TensorCache, weight: Weight, quantization: Quantization) -> F32:
    """Return values times scale in float32, which holds the products exactly."""
    values = cache.read(f"{weight.name}.q_weight").astype(np.float32)
    if quantization.scales:
        values *= cache.read(f"{weight.name}.q_scale")
    return values


def _group(cache: TensorCache, weight: Weight, quantization: Quantization) -> NDArray[Any]:
    words, scales = cache.read(f"{weight.name}.q_weight"), cache.read(f"{weight.name}.q_scale")
    if is_transposed(weight, quantization):
        words, scales = np.ascontiguousarray(words.T), np.ascontiguousarray(scales.T)
    return dequantize(words, scales, quantization, weight.shape[1])
