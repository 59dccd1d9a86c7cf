"""What a library depends on, and nothing else: the projection of a chat config that lowering reads.

A conversation template, a sampling default or a tokenizer file is not in it, so changing one leaves
the spec's bytes, and every library built from them, as they are. Imports neither numpy nor tvm.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from olmo.configuration.config import MAX_INTEGER, OLMoConfig
from olmo.errors import OlmoError, unknown
from olmo.parallel import check_shards
from olmo.quantization import Quantization

MODEL_TYPES = ("olmo",)

# Fields that mlc-chat-config.json repeats beside its model_config.
_REPEATED = (
    "vocab_size",
    "context_window_size",
    "prefill_chunk_size",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
)


@dataclass(frozen=True, slots=True)
class CompileSpec:
    """The model, its quantization and its windows, as `olmo.modeling.lower` needs them.

    `active_vocab_size` is the tokenizer's length in tokens; windows are in tokens, -1 for none.

    Raises:
        OlmoError: an unknown model type, a model that cannot be divided over the shards, or a
            window out of range.
    """

    config: OLMoConfig
    quantization: Quantization
    active_vocab_size: int
    model_type: str = "olmo"
    sliding_window_size: int = -1
    attention_sink_size: int = -1
    model_task: str = "chat"

    def __post_init__(self) -> None:
        check_shards(self.config, self.quantization)
        if self.model_type not in MODEL_TYPES:
            raise unknown("model type", str(self.model_type), MODEL_TYPES)
        if self.model_task != "chat":
            raise OlmoError(f"model_task must be 'chat', not {self.model_task!r}")
        vocab = self.config.vocab_size
        if not _is_int(self.active_vocab_size) or not 1 <= self.active_vocab_size <= vocab:
            raise OlmoError(
                f"active_vocab_size must lie in 1..{vocab} (vocab_size), "
                f"not {self.active_vocab_size!r}"
            )
        for name in ("sliding_window_size", "attention_sink_size"):
            value = getattr(self, name)
            if not _is_int(value) or (value < 1 and value != -1):
                raise OlmoError(f"{name} must be a positive integer, or -1 for none, not {value!r}")
            if value > MAX_INTEGER:
                raise OlmoError(f"{name} must be at most {MAX_INTEGER}, not {value}")

    @classmethod
    def from_chat_config(
        cls,
        chat_config: object,
        quantization: Quantization,
        where: str = "mlc-chat-config.json",
    ) -> "CompileSpec":
        """Project a parsed `mlc-chat-config.json`; `where` names it in errors.

        The quantization is the given one, whatever the file's field says.

        Raises:
            OlmoError: a field is missing or invalid, or model_config says something else than the
                field of the same name beside it.
        """
        if not isinstance(chat_config, Mapping):
            raise OlmoError(f"{where}: expected a table of fields")
        for name in ("model_config", "active_vocab_size", "model_type"):
            if name not in chat_config:
                raise OlmoError(f"{where}: the field {name!r} is missing")
        config = OLMoConfig.from_json(chat_config["model_config"], f"{where}: model_config")
        for name in _REPEATED:
            value = chat_config.get(name, getattr(config, name))
            if value != getattr(config, name):
                raise OlmoError(
                    f"{where}: {name} is {value!r}, but "
                    f"model_config.{name} is {getattr(config, name)!r}",
                    "write the file again with gen_config",
                )
        optional = ("sliding_window_size", "attention_sink_size", "model_task")
        try:
            return cls(
                config=config,
                quantization=quantization,
                active_vocab_size=chat_config["active_vocab_size"],
                model_type=chat_config["model_type"],
                **{name: chat_config[name] for name in optional if name in chat_config},
            )
        except OlmoError as error:
            raise OlmoError(f"{where}: {error}", error.hint) from None

    def to_json(self) -> bytes:
        """Return the canonical bytes: sorted keys, no spaces, UTF-8."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["config"] = self.config.to_json()
        values["quantization"] = self.quantization.to_json()
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str = "compile-spec.json") -> "CompileSpec":
        """Read what `to_json` wrote.

        Raises:
            OlmoError: not JSON, an unknown or missing field, or a value that is not allowed.
        """
        try:
            values = json.loads(data)
        except ValueError as error:
            raise OlmoError(f"{where}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise OlmoError(f"{where}: expected a table of fields")
        names = [f.name for f in fields(cls)]
        for name in values:
            if name not in names:
                raise unknown(f"field of {where}", name, names)
        for name in names:
            if name not in values:
                raise OlmoError(f"{where}: the field {name!r} is missing")
        return cls(
            **{
                **values,
                "config": OLMoConfig.from_json(values["config"], f"{where}: config"),
                "quantization": Quantization.from_json(values["quantization"]),
            }
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
