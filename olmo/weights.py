"""The parameters of OLMo, their order, and where a checkpoint holds them: one table.

The order is the model's own: embedding, layers (qkv, o, gate_up, down), lm_head. It is the order of
`params` in a library's metadata, of its packed parameters, and of the records of a converted
directory. OLMo has no norm parameters and no biases.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.quantization import Quantization

Role = Literal["embedding", "linear", "final_fc"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One stored tensor of a converted model: its name, shape (elements) and dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Source:
    """One matrix of a Hugging Face checkpoint, [out, in]; `packed` ones hold 32-bit words."""

    name: str
    shape: tuple[int, int]
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """How tensor parallelism divides a matrix [out, in]: along an axis, each of its sources evenly.

    `function` names it as MLC's model does; the library's functions that divide begin with it.
    """

    function: str
    axis: Literal[0, 1]


@dataclass(frozen=True, slots=True)
class Weight:
    """One matrix [out, in] of the model: the concatenation of its sources along axis 0.

    `name` is without the `.weight` suffix; `split` is None where every shard has all of it, `layer`
    where it is of no layer.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    sources: tuple[Source, ...]
    split: Split | None = None
    layer: int | None = None


# (name, role, sources, split), {i} the layer; the model order.
_Template = tuple[str, Role, tuple[str, ...], Split | None]
_EMBEDDING: _Template = ("model.embed_tokens", "embedding", ("model.embed_tokens",), None)
_LAYER: tuple[_Template, ...] = (
    (
        "model.layers.{i}.self_attn.qkv_proj",
        "linear",
        (
            "model.layers.{i}.self_attn.q_proj",
            "model.layers.{i}.self_attn.k_proj",
            "model.layers.{i}.self_attn.v_proj",
        ),
        Split("_shard_qkv", 0),
    ),
    (
        "model.layers.{i}.self_attn.o_proj",
        "linear",
        ("model.layers.{i}.self_attn.o_proj",),
        Split("_shard_o", 1),
    ),
    (
        "model.layers.{i}.mlp.gate_up_proj",
        "linear",
        ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.up_proj"),
        Split("_shard_mlp_up", 0),
    ),
    (
        "model.layers.{i}.mlp.down_proj",
        "linear",
        ("model.layers.{i}.mlp.down_proj",),
        Split("_shard_mlp_down", 1),
    ),
)
_FINAL_FC: _Template = ("lm_head", "final_fc", ("lm_head",), None)

# Buffers that old transformers versions saved beside the parameters.
_IGNORED = re.compile(r"(.*\.)?rotary_emb\.inv_freq")


def _source_shapes(config: OLMoConfig) -> Mapping[str, tuple[int, int]]:
    """Return [out, in] by the last part of a source's name."""
    hidden, inner = config.hidden_size, config.intermediate_size
    attention = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    return {
        "embed_tokens": (config.vocab_size, hidden),
        "q_proj": (attention, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, attention),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
        "lm_head": (config.vocab_size, hidden),
    }


def weights(config: OLMoConfig) -> tuple[Weight, ...]:
    """Return the matrices of the model in model order, with their sources."""
    shapes = _source_shapes(config)

    def weight(template: _Template, layer: int | None = None) -> Weight:
        name, role, source_names, split = template
        sources = tuple(
            Source(f"{source.format(i=layer)}.weight", shapes[source.rpartition(".")[2]])
            for source in source_names
        )
        rows = sum(source.shape[0] for source in sources)
        return Weight(
            name.format(i=layer), role, (rows, sources[0].shape[1]), sources, split, layer
        )

    layers = [weight(row, i) for i in range(config.num_hidden_layers) for row in _LAYER]
    head = [] if config.tie_word_embeddings else [weight(_FINAL_FC)]
    return (weight(_EMBEDDING), *layers, *head)


def sources(config: OLMoConfig, quantization: Quantization | None = None) -> tuple[Source, ...]:
    """Return the tensors that a checkpoint for `quantization` holds, in model order.

    Checkpoints hold floating-point weights for every quantization but AWQ, whose linears are
    quantized already.

    Raises:
        OlmoError: dimensions that AWQ's groups or words do not divide.
    """
    found: list[Source] = []
    for weight in weights(config):
        if quantization is not None and is_prequantized(weight, quantization):
            for source in weight.sources:
                found += awq_sources(source, quantization)
        else:
            found += weight.sources
    return tuple(found)


def awq_sources(source: Source, quantization: Quantization) -> tuple[Source, Source, Source]:
    """Return words, zeros and scales of a linear [out, in] in an AWQ checkpoint (layout "gemm").

    Raises:
        OlmoError: dimensions that groups or words do not divide.
    """
    rows, columns = source.shape
    name = source.name.removesuffix(".weight")
    if columns % quantization.group_size or rows % quantization.per_word:
        raise OlmoError(
            f"{quantization.name} needs inputs in groups of {quantization.group_size} and outputs "
            f"in words of {quantization.per_word}, but {name} is {columns} to {rows}",
            "choose a quantization that is not AWQ",
        )
    groups, words = columns // quantization.group_size, rows // quantization.per_word
    return (
        Source(f"{name}.qweight", (columns, words), packed=True),
        Source(f"{name}.qzeros", (groups, words), packed=True),
        Source(f"{name}.scales", (groups, rows)),
    )


def is_prequantized(weight: Weight, quantization: Quantization) -> bool:
    """Return whether the checkpoint itself holds this weight quantized."""
    return quantization.kind == "awq" and is_quantized(weight, quantization)


def is_quantized(weight: Weight, quantization: Quantization) -> bool:
    """Return whether `quantization` stores this weight quantized."""
    if quantization.kind == "none":
        return False
    return {
        "embedding": quantization.quantize_embedding,
        "linear": True,
        "final_fc": quantization.quantize_final_fc,
    }[weight.role]


def is_transposed(weight: Weight, quantization: Quantization) -> bool:
    """Return whether the stored tensors of a group-quantized weight are [in, out]."""
    return quantization.layout == "KN" and weight.role != "embedding"


def stored(weight: Weight, quantization: Quantization) -> tuple[Parameter, ...]:
    """Return the tensors that store one weight, in the model's order."""
    n, k = weight.shape
    if not is_quantized(weight, quantization):
        return (Parameter(f"{weight.name}.weight", (n, k), quantization.model_dtype),)
    if quantization.kind == "awq":
        return tuple(
            Parameter(
                part.name,
                part.shape,
                quantization.weight_dtype if part.packed else quantization.model_dtype,
            )
            for part in awq_sources(Source(weight.name, weight.shape), quantization)
        )
    if quantization.kind == "fp8":
        return (
            Parameter(f"{weight.name}.q_weight", (n, k), quantization.weight_dtype),
            *(
                Parameter(f"{weight.name}.{scale}", (1,), "float32")
                for scale in quantization.scales
            ),
        )
    if quantization.kind != "group":
        raise OlmoError(f"{quantization.name} cannot be built: {quantization.unsupported}")
    packed, scales = (n, quantization.words(k)), (n, quantization.groups(k))
    if is_transposed(weight, quantization):
        packed, scales = packed[::-1], scales[::-1]
    return (
        Parameter(f"{weight.name}.q_weight", packed, "uint32"),
        Parameter(f"{weight.name}.q_scale", scales, quantization.model_dtype),
    )


def parameters(config: OLMoConfig, quantization: Quantization) -> tuple[Parameter, ...]:
    """Return every stored tensor of the model, in model order."""
    return tuple(
        parameter for weight in weights(config) for parameter in stored(weight, quantization)
    )


def part_name(name: str, shard: int) -> str:
    """Return the name that the part of one tensor-parallel shard is stored under."""
    return f"{name}_shard-{shard}"


def is_ignored(name: str) -> bool:
    """Return whether a checkpoint tensor is known and unused."""
    return _IGNORED.fullmatch(name) is not None
