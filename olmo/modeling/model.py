"""OLMo 1 as a `relax.frontend.nn` module.

Deviations from the textbook decoder: LayerNorm without scale and bias, query, key and value clipped
to ±clip_qkv where the config says so, rotary embedding applied inside the KV cache.

Hidden states are [rows, hidden] throughout: a batch of sequences is the concatenation of their
tokens, and the KV cache knows where each begins. They, and the queries, keys and values made of
them, are float32 whatever the model dtype, unless a target wants them narrower: attention's scores
are sums of products of two of them, and rounding those can move logits far more than rounding
weights does.

With tensor parallelism the modules are those of one shard: it has its share of heads and of the
feed-forward network, and sums over the shards make the states whole again. Between pipeline stages
the states pass a mark, at which `olmo.modeling.pipeline_stages` cuts.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-subclassing-any

import math
from collections.abc import Callable

from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from olmo.configuration.config import OLMoConfig
from olmo.modeling.kv_cache import attention
from olmo.modeling.pipeline_stages import boundary
from olmo.modeling.quantized_layers import embedding, linear
from olmo.modeling.tensor_expression import tensor_expression
from olmo.parallel import layer_partition
from olmo.quantization import Quantization

LAYER_NORM_EPSILON = 1e-5  # the OLMo architecture's constant; no config field holds it


def _sigmoid_gate(x: tirx.Expr) -> tirx.Expr:
    return x / (1 + tirx.exp(-x))


def _gelu(x: tirx.Expr) -> tirx.Expr:
    return 0.5 * x * (1 + tirx.erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: tirx.Expr) -> tirx.Expr:
    return 0.5 * x * (1 + tirx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _relu(x: tirx.Expr) -> tirx.Expr:
    return tirx.max(x, tirx.const(0, "float32"))


ACTIVATIONS: dict[str, Callable[[tirx.Expr], tirx.Expr]] = {
    "silu": _sigmoid_gate,
    "swish": _sigmoid_gate,
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "relu": _relu,
}


def layer_norm(x: Tensor) -> Tensor:
    """Normalise each row to mean 0 and variance 1 (two passes, in float32): [rows, width]."""

    def normalise(a: te.Tensor) -> te.Tensor:
        rows, width = a.shape
        k = te.reduce_axis((0, width), name="k")
        total = te.compute((rows,), lambda i: te.sum(_f32(a[i, k]), axis=k), name="total")
        mean = te.compute((rows,), lambda i: total[i] / width.astype("float32"), name="mean")
        m = te.reduce_axis((0, width), name="m")

        def square(i: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
            centred = _f32(a[i, j]) - mean[i]
            return centred * centred

        squares = te.compute((rows,), lambda i: te.sum(square(i, m), axis=m), name="squares")
        inverse = te.compute(
            (rows,),
            lambda i: tirx.rsqrt(squares[i] / width.astype("float32") + LAYER_NORM_EPSILON),
            name="inverse",
        )
        return te.compute(
            (rows, width),
            lambda i, j: ((_f32(a[i, j]) - mean[i]) * inverse[i]).astype(a.dtype),
            name="normalise",
        )

    return tensor_expression(normalise, "layer_norm", [x])


def clip(x: Tensor, bound: float) -> Tensor:
    """Limit every element to ±bound: [rows, width]."""

    def limit(a: te.Tensor) -> te.Tensor:
        high = tirx.const(bound, a.dtype)
        low = tirx.const(-bound, a.dtype)
        return te.compute(a.shape, lambda i, j: tirx.max(tirx.min(a[i, j], high), low), name="clip")

    return tensor_expression(limit, "clip", [x])


def gated_activation(gate_up: Tensor, activation: str) -> Tensor:
    """Return act(gate) * up of the concatenation [gate, up]: [rows, 2 * width] to [rows, width]."""
    act = ACTIVATIONS[activation]

    def gated(a: te.Tensor) -> te.Tensor:
        rows, width = a.shape[0], a.shape[1] // 2
        return te.compute(
            (rows, width),
            lambda i, j: (act(_f32(a[i, j])) * _f32(a[i, width + j])).astype(a.dtype),
            name="gated_activation",
        )

    return tensor_expression(gated, "gated_activation", [gate_up])


def _f32(x: tirx.Expr) -> tirx.Expr:
    return x.astype("float32")


class Attention(nn.Module):
    """Grouped-query attention over the paged KV cache, of one shard's heads."""

    def __init__(self, config: OLMoConfig, quantization: Quantization) -> None:
        self.config = config
        self.heads = config.num_attention_heads // config.tensor_parallel_shards
        self.all_heads = (
            self.heads + 2 * config.num_key_value_heads // config.tensor_parallel_shards
        )
        d = config.head_dim
        self.qkv_proj = linear(quantization, "linear", config.hidden_size, self.all_heads * d)
        self.o_proj = linear(quantization, "linear", self.heads * d, config.hidden_size)

    def forward(self, x: Tensor, kv_cache: PagedKVCache, layer: int) -> Tensor:
        """Attend: [rows, hidden] to [rows, hidden], to be summed over the shards."""
        c = self.config
        rows = x.shape[0]
        qkv = self.qkv_proj(x)  # (rows, (heads + 2 kv_heads) * head_dim)
        if c.clip_qkv is not None:
            qkv = clip(qkv, c.clip_qkv)
        qkv = op.reshape(qkv, (rows, self.all_heads, c.head_dim))
        out = attention(kv_cache, layer, qkv, self.heads, c.head_dim**-0.5)
        return self.o_proj(op.reshape(out, (rows, self.heads * c.head_dim)))


class MLP(nn.Module):
    """The gated feed-forward network, of one shard's width."""

    def __init__(self, config: OLMoConfig, quantization: Quantization) -> None:
        hidden = config.hidden_size
        inner = config.intermediate_size // config.tensor_parallel_shards
        self.activation = config.hidden_act
        self.gate_up_proj = linear(quantization, "linear", hidden, 2 * inner)
        self.down_proj = linear(quantization, "linear", inner, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return the feed-forward update: [rows, hidden] to [rows, hidden], to be summed likewise."""
        return self.down_proj(gated_activation(self.gate_up_proj(x), self.activation))


class DecoderLayer(nn.Module):
    """One layer: attention, then the feed-forward network, each on a normalised input."""

    def __init__(self, config: OLMoConfig, quantization: Quantization) -> None:
        self.self_attn = Attention(config, quantization)
        self.mlp = MLP(config, quantization)
        self.shards = config.tensor_parallel_shards

    def forward(self, x: Tensor, kv_cache: PagedKVCache, layer: int) -> Tensor:
        """Apply the layer: [rows, hidden] to [rows, hidden]."""
        x = x + self._whole(self.self_attn(layer_norm(x), kv_cache, layer))
        return x + self._whole(self.mlp(layer_norm(x)))

    def _whole(self, part: Tensor) -> Tensor:
        return part if self.shards == 1 else op.ccl_allreduce(part, "sum")


class Backbone(nn.Module):
    """The embedding and the layers."""

    def __init__(self, config: OLMoConfig, quantization: Quantization) -> None:
        self.embed_tokens = embedding(quantization, config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            [DecoderLayer(config, quantization) for _ in range(config.num_hidden_layers)]
        )
        self.first_of_stage = layer_partition(config)[1:-1]

    def forward(self, x: Tensor, kv_cache: PagedKVCache) -> Tensor:
        """Return the last hidden states, normalised: [rows, hidden] to [rows, hidden]."""
        for i, layer in enumerate(self.layers):
            if i in self.first_of_stage:
                x = boundary(x)
            x = layer(x, kv_cache, i)
        return layer_norm(x)


class OLMo(nn.Module):
    """The whole model; parameter names and their order are those of `olmo.weights`.

    `dtype` is that of weights and of what crosses its functions' boundaries, `state_dtype` that of
    hidden states within, and of the KV cache.
    """

    def __init__(
        self, config: OLMoConfig, quantization: Quantization, state_dtype: str = "float32"
    ) -> None:
        self.config = config
        self.state_dtype = state_dtype
        self.dtype = quantization.model_dtype
        self.model = Backbone(config, quantization)
        if not config.tie_word_embeddings:
            self.lm_head = linear(quantization, "final_fc", config.hidden_size, config.vocab_size)

    def embed(self, ids: Tensor) -> Tensor:
        """Look up the embeddings: [n] int32 to [n, hidden] in the model dtype."""
        return self.model.embed_tokens.lookup(self.agreed(ids))

    def agreed(self, integers: Tensor) -> Tensor:
        """Return the integers that the first device was given: all of them compute with the same."""
        alone = self.config.devices == 1
        return integers if alone else op.ccl_broadcast_from_worker0(integers)

    def hidden_states(self, x: Tensor, kv_cache: PagedKVCache) -> Tensor:
        """Run all layers: [rows, hidden] to [rows, hidden]."""
        return self.model(op.astype(x, self.state_dtype), kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits in float32: [rows, hidden] to [rows, vocab]."""
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        return head(hidden, out_dtype="float32")
