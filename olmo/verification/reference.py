"""OLMo in numpy: the logits that a library is measured against.

Everything is computed in float64 on the weights as stored (dequantized), so the result does not
depend on the order in which some machine's BLAS adds. Layers run one after the other over all
sequences, so each weight is asked for once and only one layer is in memory.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.floats import round_to
from olmo.configuration.config import OLMoConfig

F64 = NDArray[np.float64]
# The weight [out, in] of a name such as `model.layers.0.mlp.down_proj`.
WeightSource = Callable[[str], NDArray[Any]]

_EPSILON = 1e-5


def logits(
    config: OLMoConfig,
    weight: WeightSource,
    sequences: Sequence[Sequence[int]],
    embedding_dtype: str = "float32",
) -> list[F64]:
    """Return the logits after every token of each sequence: a list of [tokens, vocab].

    `embedding_dtype` is the dtype of what a library's `embed` returns, and so of its callers.
    """
    table = weight("model.embed_tokens")
    embedded = (table[list(tokens)].astype(np.float32) for tokens in sequences)
    states = [round_to(rows, embedding_dtype).astype(np.float64) for rows in embedded]
    head = table if config.tie_word_embeddings else None
    del table
    for i in range(config.num_hidden_layers):
        states = _layer(config, weight, f"model.layers.{i}", states)
    if head is None:
        head = weight("lm_head")
    head = head.astype(np.float64)
    return [layer_norm(x) @ head.T for x in states]


def layer_norm(x: F64) -> F64:
    """Normalise each row, without scale and bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON))


def rotate(x: F64, positions: NDArray[np.int64], config: OLMoConfig) -> F64:
    """Apply rotary embedding to [tokens, heads, head_dim]: halves, not interleaved pairs."""
    angles = positions[:, None] * inverse_frequencies(config)[None, :]
    weight = attention_factor(config)
    cos, sin = weight * np.cos(angles)[:, None, :], weight * np.sin(angles)[:, None, :]
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def inverse_frequencies(config: OLMoConfig) -> F64:
    """Return the angle per position of each rotated pair, [head_dim / 2]."""
    exponents = np.arange(0, config.head_dim, 2) / config.head_dim
    plain = np.asarray(config.position_embedding_base**-exponents, dtype=np.float64)
    scaling = config.rope_scaling
    return plain if scaling is None else _SCALINGS[scaling["rope_type"]](plain, scaling)


def attention_factor(config: OLMoConfig) -> float:
    """Return what cosine and sine are multiplied by: 1 but for YaRN (arXiv:2309.00071, 3.4)."""
    scaling = config.rope_scaling
    if scaling is None or scaling["rope_type"] != "yarn":
        return 1.0
    if "attention_factor" in scaling:
        return float(scaling["attention_factor"])

    def grown(weight: float) -> float:
        return 1.0 + 0.1 * weight * max(0.0, math.log(scaling["factor"]))

    if {"mscale", "mscale_all_dim"} <= scaling.keys():
        return grown(scaling["mscale"]) / grown(scaling["mscale_all_dim"])
    return grown(1.0)


def _linear(plain: F64, scaling: Mapping[str, Any]) -> F64:
    return np.asarray(plain / scaling["factor"])


def _llama3(plain: F64, scaling: Mapping[str, Any]) -> F64:
    """Keep short wavelengths, stretch long ones, and blend between (Llama 3.1's model code)."""
    turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    blend = (turns - low) / (high - low)
    stretched = plain / scaling["factor"]
    between = (1 - blend) * stretched + blend * plain
    return np.where(turns > high, plain, np.where(turns < low, stretched, between))


def _yarn(plain: F64, scaling: Mapping[str, Any]) -> F64:
    """Keep pairs below a first, stretch those above a last, and blend between (3.2 of the paper).

    The pair that turns r times within the trained window has the number
    pairs * log(window / (2 pi r)) / log(base), and base**(1 / pairs) is plain[0] / plain[1].
    """
    window = scaling["original_max_position_embeddings"]
    step = math.log(plain[0] / plain[1])
    first, last = (
        math.log(window / (2 * math.pi * scaling.get(name, default))) / step
        for name, default in (("beta_fast", 32), ("beta_slow", 1))
    )
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * len(plain) - 1)
    width = last - first or 1e-3
    stretched = np.clip((np.arange(len(plain)) - first) / width, 0, 1)
    return np.asarray(plain * (1 - stretched) + plain / scaling["factor"] * stretched)


_SCALINGS: Mapping[str, Callable[[F64, Mapping[str, Any]], F64]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}


def _layer(config: OLMoConfig, weight: WeightSource, name: str, states: Sequence[F64]) -> list[F64]:
    def project(part: str, inputs: Sequence[F64]) -> list[F64]:
        matrix = weight(f"{name}.{part}").astype(np.float64)
        return [x @ matrix.T for x in inputs]

    qkv = project("self_attn.qkv_proj", [layer_norm(x) for x in states])
    attended = project("self_attn.o_proj", [_attend(config, x) for x in qkv])
    states = [x + y for x, y in zip(states, attended, strict=True)]
    gate_up = project("mlp.gate_up_proj", [layer_norm(x) for x in states])
    down = project("mlp.down_proj", [_gate(config, x) for x in gate_up])
    return [x + y for x, y in zip(states, down, strict=True)]


def _attend(config: OLMoConfig, qkv: F64) -> F64:
    if config.clip_qkv is not None:
        qkv = np.clip(qkv, -config.clip_qkv, config.clip_qkv)
    heads, kv_heads, tokens = config.num_attention_heads, config.num_key_value_heads, len(qkv)
    split = qkv.reshape(tokens, heads + 2 * kv_heads, config.head_dim)
    q, k, v = np.split(split, [heads, heads + kv_heads], axis=1)
    positions = np.arange(tokens)
    q, k = rotate(q, positions, config), rotate(k, positions, config)
    k, v = (np.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(config.head_dim)
    scores = np.where(np.tril(np.ones((tokens, tokens), dtype=bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.asarray(np.einsum("hqk,khd->qhd", scores, v).reshape(tokens, -1))


def _gate(config: OLMoConfig, gate_up: F64) -> F64:
    gate, up = np.split(gate_up, 2, axis=-1)
    return np.asarray(_ACTIVATIONS[config.hidden_act](gate) * up)


def _silu(x: F64) -> F64:
    with np.errstate(over="ignore"):
        return np.asarray(x / (1 + np.exp(-x)))


def _gelu(x: F64) -> F64:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * x * (1 + erf(x * math.sqrt(0.5))))


def _gelu_tanh(x: F64) -> F64:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _relu(x: F64) -> F64:
    return np.maximum(x, 0)


_ACTIVATIONS: dict[str, Callable[[F64], F64]] = {
    "silu": _silu,
    "swish": _silu,
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "relu": _relu,
}
