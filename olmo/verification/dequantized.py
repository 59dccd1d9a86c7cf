"""The weights of a converted directory as a library computes with them: dequantized, in numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.codecs import awq
from olmo.codecs.floats import F32
from olmo.codecs.group_quantization import dequantize
from olmo.configuration.config import OLMoConfig
from olmo.conversion.tensor_cache_reader import TensorCache
from olmo.parallel import division
from olmo.quantization import Quantization
from olmo.weights import (
    Parameter,
    Weight,
    is_quantized,
    is_transposed,
    part_name,
    stored,
    weights,
)


def dequantized(
    cache: TensorCache, config: OLMoConfig, quantization: Quantization, name: str
) -> NDArray[Any]:
    """Return the matrix [out, in] of this name, without `.weight`, as libraries compute with it.

    Plain and AWQ weights are in the model dtype; integers or float8 times a scale are float32.
    Parts for several devices, as many as the config's `tensor_parallel_shards`, are joined.

    Raises:
        OlmoError: the directory lacks a tensor that stores it, or a shard cannot be read.
    """
    (weight,) = (w for w in weights(config) if w.name == name)
    shards = config.tensor_parallel_shards
    arrays = [_whole(cache, weight, tensor, shards) for tensor in stored(weight, quantization)]
    if not is_quantized(weight, quantization):
        return arrays[0]
    if quantization.kind == "awq":
        return awq.dequantize(*arrays)
    if quantization.kind == "fp8":
        return _float8(quantization, *arrays)
    return _group(weight, quantization, *arrays)


def _whole(cache: TensorCache, weight: Weight, tensor: Parameter, shards: int) -> NDArray[Any]:
    """Return a stored tensor, joined where the directory holds its parts."""
    divided = division(weight, tensor, shards)
    if tensor.name in cache.tensors or divided is None:
        return cache.read(tensor.name)
    parts = [cache.read(part_name(tensor.name, shard)) for shard in range(shards)]
    whole = np.empty(tensor.shape, parts[0].dtype)
    for shard, part in enumerate(parts):
        done = 0
        for index in divided.pieces(shard):
            piece = whole[index]
            size = piece.shape[divided.axis]
            piece[...] = np.take(part, range(done, done + size), divided.axis)
            done += size
    return whole


def _float8(quantization: Quantization, values: NDArray[Any], *scales: NDArray[Any]) -> F32:
    """Return values times scale in float32, which holds the products exactly."""
    wide = values.astype(np.float32)
    if quantization.scales:
        wide *= scales[0]
    return wide


def _group(
    weight: Weight, quantization: Quantization, words: NDArray[Any], scales: NDArray[Any]
) -> NDArray[Any]:
    if is_transposed(weight, quantization):
        words, scales = np.ascontiguousarray(words.T), np.ascontiguousarray(scales.T)
    return dequantize(words, scales, quantization, weight.shape[1])
