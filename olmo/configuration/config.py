"""The configuration of an OLMo model, as MLC's `model_config` writes it.

Field names and their order are those of `mlc-chat-config.json`. Validation happens here, once:
whoever holds an `OLMoConfig` may rely on every dimension being positive and divisible as the
architecture needs. Imports neither numpy nor tvm.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from olmo.configuration.rope_scaling import is_positive, normalised_scaling
from olmo.errors import OlmoError, unknown

_T = TypeVar("_T")

MODEL_TYPE = "olmo"
ACTIVATIONS = ("silu", "swish", "gelu", "relu", "gelu_new")
MAX_DEFAULT_PREFILL_CHUNK = 8192
MAX_INTEGER = 2**31 - 1  # runtimes count tokens, heads and elements of a dimension in int32
MAX_LAYERS = 10_000  # a model's matrices are listed before the first of them is looked for

# Other families whose config.json users confuse with OLMo's.
_FAMILY_HINTS: Mapping[str, str] = {
    "hf_olmo": "use the repository whose name ends in -hf: its config.json has model_type 'olmo'",
    "olmo2": "OLMo 2 has norm weights that OLMo has not; choose an OLMo 1 checkpoint",
    "olmo3": "OLMo 3 has norm weights that OLMo has not; choose an OLMo 1 checkpoint",
    "olmoe": "OLMoE is a mixture of experts; choose an OLMo 1 checkpoint",
}

_OTHER_FAMILY = "choose an OLMo 1 checkpoint, such as allenai/OLMo-1B-hf"
_NOT_OLMO = "is it the config.json of an OLMo 1 checkpoint in the form of transformers?"

_POSITIVE_INTEGERS = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "num_hidden_layers",
    "context_window_size",
    "prefill_chunk_size",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
    "max_batch_size",
)
# What the names, shapes and values of converted tensors depend on, and nothing else.
_ARCHITECTURE = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "num_hidden_layers",
    "tie_word_embeddings",
)


@dataclass(frozen=True, slots=True)
class OLMoConfig:
    """A validated OLMo configuration; fields and order of MLC's `model_config`.

    Windows and chunks are in tokens, dimensions in elements. `context_window_size` of a config read
    by `from_huggingface` is the `max_position_embeddings` the model was trained with, so a window
    is beyond training exactly when it is larger than that of the base config.

    Raises:
        OlmoError: a value has the wrong type or range, or two values contradict each other.
    """

    vocab_size: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    position_embedding_base: float
    rope_scaling: Mapping[str, Any] | None = field(hash=False)
    intermediate_size: int
    hidden_act: str
    num_hidden_layers: int
    tie_word_embeddings: bool
    context_window_size: int
    prefill_chunk_size: int
    tensor_parallel_shards: int = 1
    pipeline_parallel_stages: int = 1
    max_batch_size: int = 128
    clip_qkv: float | None = None

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def devices(self) -> int:
        """How many devices the model is divided over."""
        return self.tensor_parallel_shards * self.pipeline_parallel_stages

    @classmethod
    def from_huggingface(cls, obj: object, where: str = "config.json") -> "OLMoConfig":
        """Read a Hugging Face `config.json` (transformers 4 or 5); `where` names it in errors.

        Raises:
            OlmoError: not an OLMo, a needed field is missing, or the values are contradictory.
        """
        config = _mapping(obj, where)
        _check_family(config, where)
        hidden_size = _integer(config, "hidden_size", where)
        heads = _integer(config, "num_attention_heads", where)
        window = _integer(config, "max_position_embeddings", where)
        if hidden_size % heads:
            raise OlmoError(
                f"{where}: hidden_size {hidden_size} is not divisible by "
                f"num_attention_heads {heads}"
            )
        theta, scaling = _rope(config, where)
        try:
            return cls(
                vocab_size=_integer(config, "vocab_size", where),
                hidden_size=hidden_size,
                num_attention_heads=heads,
                num_key_value_heads=_optional_integer(config, "num_key_value_heads", heads, where),
                head_dim=_optional_integer(config, "head_dim", hidden_size // heads, where),
                position_embedding_base=theta,
                rope_scaling=scaling,
                intermediate_size=_integer(config, "intermediate_size", where),
                hidden_act=_needed(config, "hidden_act", where),
                num_hidden_layers=_integer(config, "num_hidden_layers", where),
                # transformers' OlmoConfig leaves the field out where it is False
                tie_word_embeddings=config.get("tie_word_embeddings", False),
                context_window_size=window,
                prefill_chunk_size=min(window, MAX_DEFAULT_PREFILL_CHUNK),
                clip_qkv=config.get("clip_qkv"),
            )
        except OlmoError as error:
            raise OlmoError(_located(error, where), error.hint) from None

    @classmethod
    def from_json(cls, obj: object, where: str = "model_config") -> "OLMoConfig":
        """Read the `model_config` form that `to_json` and MLC write.

        Raises:
            OlmoError: an unknown or missing field, or a value that is not allowed.
        """
        config = _mapping(obj, where)
        names = [f.name for f in dataclasses.fields(cls)]
        for name in config:
            if name not in names:
                raise unknown(f"field of {where}", name, names)
        for f in dataclasses.fields(cls):
            if f.default is dataclasses.MISSING and f.name not in config:
                raise OlmoError(f"{where}: the field {f.name!r} is missing")
        try:
            return cls(**config)
        except OlmoError as error:
            raise OlmoError(_located(error, where), error.hint) from None

    @classmethod
    def from_architecture(cls, obj: object, where: str = "architecture") -> "OLMoConfig":
        """Return a config with the given `architecture`; fields outside it hold neutral values.

        Raises:
            OlmoError: an unknown or missing field, or a value that is not allowed.
        """
        given = dict(_mapping(obj, where))
        family = given.pop("model_type", None)
        if family != MODEL_TYPE:
            raise OlmoError(f"{where}: model_type is {family!r}, not {MODEL_TYPE!r}")
        for name in given:
            if name not in _ARCHITECTURE:
                raise unknown(f"field of {where}", name, _ARCHITECTURE)
        neutral = {
            "position_embedding_base": 10000.0,
            "rope_scaling": None,
            "hidden_act": "silu",
            "context_window_size": 1,
            "prefill_chunk_size": 1,
        }
        return cls.from_json({**given, **neutral}, where)

    def to_json(self) -> dict[str, Any]:
        """Return the `model_config` mapping, keys in MLC's order."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.rope_scaling is not None:
            values["rope_scaling"] = dict(self.rope_scaling)
        return values

    def with_overrides(self, **fields: Any) -> "OLMoConfig":
        """Return the config with `fields` replaced; a smaller window also limits the prefill chunk.

        Raises:
            OlmoError: an unknown field, or a value that is not allowed.
        """
        names = [f.name for f in dataclasses.fields(self)]
        for name in fields:
            if name not in names:
                raise unknown("config field", name, names)
        window = fields.get("context_window_size")
        if isinstance(window, int) and "prefill_chunk_size" not in fields:
            fields["prefill_chunk_size"] = min(self.prefill_chunk_size, window)
        return dataclasses.replace(self, **fields)


def architecture(obj: object, where: str = "config.json") -> dict[str, Any]:
    """Project a Hugging Face `config.json` to what the conversion of weights depends on.

    Windows, rotary embedding, activation, dtype and library version have no part in it.

    Raises:
        OlmoError: as `OLMoConfig.from_huggingface`.
    """
    config = OLMoConfig.from_huggingface(obj, where)
    return {"model_type": MODEL_TYPE} | {name: getattr(config, name) for name in _ARCHITECTURE}


def _validate(config: OLMoConfig) -> None:
    for name in _POSITIVE_INTEGERS:
        _check_integer(getattr(config, name), name, name)
    if not isinstance(config.tie_word_embeddings, bool):
        raise OlmoError(
            f"tie_word_embeddings must be true or false, not {config.tie_word_embeddings!r}"
        )
    if not isinstance(config.hidden_act, str) or config.hidden_act not in ACTIVATIONS:
        raise unknown("activation hidden_act", str(config.hidden_act), ACTIVATIONS)
    theta = _positive(config.position_embedding_base, "position_embedding_base")
    object.__setattr__(config, "position_embedding_base", theta)
    if config.clip_qkv is not None:
        object.__setattr__(config, "clip_qkv", _positive(config.clip_qkv, "clip_qkv"))
    if config.rope_scaling is not None:
        scaling = normalised_scaling(config.rope_scaling, "rope_scaling")
        object.__setattr__(config, "rope_scaling", scaling)
        if scaling is not None and scaling["rope_type"] == "yarn" and theta <= 1:
            raise OlmoError(f"'yarn' scaling needs a position_embedding_base above 1, not {theta}")
    _validate_shapes(config)


def _validate_shapes(config: OLMoConfig) -> None:
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if config.head_dim * heads != config.hidden_size:
        raise OlmoError(
            f"head_dim {config.head_dim} times num_attention_heads {heads} "
            f"is not hidden_size {config.hidden_size}"
        )
    if heads % kv_heads:
        raise OlmoError(
            f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}"
        )
    if config.head_dim % 2:
        raise OlmoError(f"head_dim {config.head_dim} is odd: rotary embedding rotates pairs")
    if config.prefill_chunk_size > config.context_window_size:
        raise OlmoError(
            f"prefill_chunk_size {config.prefill_chunk_size} is larger than "
            f"context_window_size {config.context_window_size}"
        )
    shards = config.tensor_parallel_shards
    for name in ("num_key_value_heads", "intermediate_size"):
        if getattr(config, name) % shards:
            raise OlmoError(
                f"tensor_parallel_shards {shards} does not divide {name} {getattr(config, name)}",
                "choose a number of shards that does",
            )
    if config.num_hidden_layers % config.pipeline_parallel_stages:
        raise OlmoError(
            f"pipeline_parallel_stages {config.pipeline_parallel_stages} does not divide "
            f"num_hidden_layers {config.num_hidden_layers}",
            "choose a number of stages that does",
        )


def _check_family(config: Mapping[str, Any], where: str) -> None:
    family = _needed(config, "model_type", where)
    if family != MODEL_TYPE:
        raise OlmoError(
            f"{where}: model_type is {family!r}, but Olmill builds {MODEL_TYPE!r} models",
            _FAMILY_HINTS.get(str(family), _OTHER_FAMILY),
        )
    if config.get("attention_bias"):
        raise OlmoError(
            f"{where}: attention_bias is {config['attention_bias']!r}, but OLMo has no biases"
        )


def _rope(config: Mapping[str, Any], where: str) -> tuple[float, Mapping[str, Any] | None]:
    """Read the rotary embedding from both forms; either may be absent, both must agree.

    transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`.
    """
    thetas: dict[str, float] = {}
    scalings: dict[str, Mapping[str, Any] | None] = {}
    if config.get("rope_theta") is not None:
        thetas["rope_theta"] = _positive(config["rope_theta"], f"{where}: rope_theta")
    if "rope_scaling" in config:
        scalings["rope_scaling"] = _rope_scaling(config["rope_scaling"], f"{where}: rope_scaling")
    if config.get("rope_parameters") is not None:
        name = "rope_parameters"
        parameters = _mapping(config[name], f"{where}: {name}")
        if parameters.get("rope_theta") is not None:
            thetas[f"{name}.rope_theta"] = _positive(
                parameters["rope_theta"], f"{where}: {name}.rope_theta"
            )
        scalings[name] = _rope_scaling(parameters, f"{where}: {name}")
    if not thetas:
        raise OlmoError(
            f"{where}: the field 'rope_theta' is missing",
            "transformers 4 writes it at the top level, transformers 5 in rope_parameters",
        )
    theta = _agreed(thetas, where)
    return theta, _agreed(scalings, where) if scalings else None


def _rope_scaling(value: object, where: str) -> Mapping[str, Any] | None:
    return None if value is None else normalised_scaling(value, where)


def _agreed(values: Mapping[str, _T], where: str) -> _T:
    """Return the common value; two places that say different things are an error naming both."""
    (first, value), *others = values.items()
    for name, other in others:
        if other != value:
            raise OlmoError(f"{where}: {first} is {value!r}, but {name} is {other!r}")
    return value


def _mapping(obj: object, where: str) -> Mapping[str, Any]:
    if not isinstance(obj, Mapping):
        raise OlmoError(f"{where}: expected a table of fields, found {type(obj).__name__}")
    return obj


def _needed(config: Mapping[str, Any], name: str, where: str) -> Any:
    if config.get(name) is None:
        raise OlmoError(f"{where}: the field {name!r} is missing", _NOT_OLMO)
    return config[name]


def _integer(config: Mapping[str, Any], name: str, where: str) -> int:
    value: int = _needed(config, name, where)
    _check_integer(value, name, f"{where}: {name}")
    return value


def _check_integer(value: object, name: str, told: str) -> None:
    """Refuse what is no positive integer, or larger than any that a runtime counts with."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OlmoError(f"{told} must be a positive integer, not {value!r}")
    largest = MAX_LAYERS if name == "num_hidden_layers" else MAX_INTEGER
    if value > largest:
        raise OlmoError(f"{told} must be at most {largest}, not {value}")


def _optional_integer(config: Mapping[str, Any], name: str, default: int, where: str) -> int:
    return default if config.get(name) is None else _integer(config, name, where)


def _positive(value: object, where: str) -> float:
    if not is_positive(value):
        raise OlmoError(f"{where} must be a positive number, not {value!r}")
    return float(value)  # type: ignore[arg-type] # a number


def _located(error: OlmoError, where: str) -> str:
    message = str(error)
    return message if message.startswith(where) else f"{where}: {message}"
