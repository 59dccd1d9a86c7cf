"""OLMo in torch for training: functions over a mapping of weights with Hugging Face names.

Architecture: non-parametric LayerNorm, rotary embeddings (rotate-half), SwiGLU, no biases (OLMo:
Accelerating the Science of Language Models, arXiv:2402.00838). torch is an extra, imported only
when a function here runs; its objects are typed Any because it is absent where types are checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

LAYER_NORM_EPSILON = 1e-5
GROUP = 32
MAX_INT = 7
_EMBEDDING = "model.embed_tokens.weight"

Weights = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of an OLMo with tied embeddings and as many key as query heads."""

    vocabulary: int
    hidden: int
    intermediate: int
    heads: int
    layers: int
    rope_theta: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """The dimensions that a config.json declares."""
        return cls(
            config["vocab_size"],
            config["hidden_size"],
            config["intermediate_size"],
            config["num_attention_heads"],
            config["num_hidden_layers"],
            config["rope_theta"],
        )

    def tensors(self) -> dict[str, tuple[int, int]]:
        """Name and [out, in] of every tensor."""
        h, i = self.hidden, self.intermediate
        layer = {
            **{f"self_attn.{p}_proj.weight": (h, h) for p in "qkvo"},
            "mlp.gate_proj.weight": (i, h),
            "mlp.up_proj.weight": (i, h),
            "mlp.down_proj.weight": (h, i),
        }
        return {
            _EMBEDDING: (self.vocabulary, h),
            **{
                f"model.layers.{n}.{name}": shape
                for n in range(self.layers)
                for name, shape in layer.items()
            },
        }


def initial_weights(shape: Shape, seed: int) -> dict[str, Any]:
    """Random float32 weights: variance 1/fan-in, less where a layer adds to the residual stream."""
    torch = import_module("torch")
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, (rows, columns) in shape.tensors().items():
        deviation = columns**-0.5
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            deviation /= (2 * shape.layers) ** 0.5
        weights[name] = torch.randn(rows, columns, generator=generator) * deviation
    return weights


def logits(weights: Weights, shape: Shape, ids: Any, wanted: Any) -> Any:
    """Logits [n, vocabulary] at the flat positions `wanted` [n] of `ids` [batch, length]."""
    torch = import_module("torch")
    functional = torch.nn.functional
    batch, length = ids.shape
    head = shape.hidden // shape.heads
    cos, sin = _rotation(torch, length, head, shape.rope_theta)

    def norm(x: Any) -> Any:
        return functional.layer_norm(x, (shape.hidden,), eps=LAYER_NORM_EPSILON)

    def heads(x: Any) -> Any:
        return x.view(batch, length, shape.heads, head).transpose(1, 2)

    def rotate(x: Any) -> Any:
        left, right = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-right, left), dim=-1) * sin

    x = functional.embedding(ids, weights[_EMBEDDING])
    for n in range(shape.layers):
        w = {
            name: weights[f"model.layers.{n}.{block}.{name}_proj.weight"]
            for block, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down")))
            for name in names
        }
        y = norm(x)
        attended = functional.scaled_dot_product_attention(
            rotate(heads(y @ w["q"].T)),
            rotate(heads(y @ w["k"].T)),
            heads(y @ w["v"].T),
            is_causal=True,
        )
        x = x + attended.transpose(1, 2).reshape(batch, length, shape.hidden) @ w["o"].T
        y = norm(x)
        x = x + (functional.silu(y @ w["gate"].T) * (y @ w["up"].T)) @ w["down"].T
    return norm(x.reshape(-1, shape.hidden)[wanted]) @ weights[_EMBEDDING].T


def _rotation(torch: Any, length: int, head: int, theta: float) -> tuple[Any, Any]:
    frequency = theta ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def four_bit(weights: Weights) -> dict[str, Any]:
    """The weights as 4-bit group quantization gives them back; gradients pass straight through.

    Groups of 32 along the input, scale max|w| / 7, values -7 to 7 (MLC's q4f16_1 and q4f32_1).
    """
    torch = import_module("torch")
    result = {}
    for name, weight in weights.items():
        with torch.no_grad():
            groups = weight.view(weight.shape[0], -1, GROUP)
            scale = groups.abs().amax(dim=-1, keepdim=True) / MAX_INT
            steps = (groups / scale.clamp_min(1e-12)).round().clamp(-MAX_INT, MAX_INT)
            change = (steps * scale).view_as(weight) - weight
        result[name] = weight + change
    return result


def rounded(weights: Weights) -> dict[str, Any]:
    """The weights rounded to bfloat16, as float32."""
    torch = import_module("torch")
    return {
        name: weight.detach().to(torch.bfloat16).to(torch.float32)
        for name, weight in weights.items()
    }
