"""`mlc-chat-config.json`: what a runtime needs beside weights and library, in MLC's form.

Values come from config.json, generation_config.json, the tokenizer and the caller. What is odd but
allowed is told as a warning, as data.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo.configuration.config import MODEL_TYPE, OLMoConfig
from olmo.configuration.conversation import Conversation, template
from olmo.configuration.tokenizer_info import read_tokenizer
from olmo.errors import OlmoError
from olmo.publish import staged

CHAT_CONFIG = "mlc-chat-config.json"
VERSION = "0.1.0"

_TOKEN_IDS: Mapping[str, int] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
# Default, smallest and largest value; a bound that is itself excluded is given as the next float,
# which also keeps integers out that no float can hold.
_SAMPLING: Mapping[str, tuple[float, float, float]] = {
    "temperature": (1.0, 0.0, sys.float_info.max),
    "presence_penalty": (0.0, -2.0, 2.0),
    "frequency_penalty": (0.0, -2.0, 2.0),
    "repetition_penalty": (1.0, math.ulp(0.0), sys.float_info.max),
    "top_p": (1.0, math.ulp(0.0), 1.0),
}


@dataclass(frozen=True, slots=True)
class Generated:
    """A chat config, the tokenizer files that belong to it, and what its user should know.

    `made` are those of the files that the model's directory does not have.
    """

    chat_config: dict[str, Any]
    tokenizer_files: tuple[str, ...]
    warnings: tuple[str, ...]
    made: Mapping[str, bytes] = field(default_factory=dict)


def generate(
    config_json: object,
    generation_config: object | None,
    tokenizer: Path,
    quantization: str,
    conv_template: str | Mapping[str, Any],
    *,
    gguf_tokenizer: Mapping[str, Any] | None = None,
    context_window_size: int | None = None,
    prefill_chunk_size: int | None = None,
    sliding_window_size: int = -1,
    attention_sink_size: int = -1,
    tensor_parallel_shards: int | None = None,
    pipeline_parallel_stages: int | None = None,
    max_batch_size: int | None = None,
) -> Generated:
    """Return the chat config of a model, keys in MLC's order.

    `config_json` and `generation_config` are the parsed files (the latter None where there is
    none), `tokenizer` the directory of the tokenizer's files; where it has none, the tokenizer is
    `gguf_tokenizer`, as `olmo.checkpoints.gguf_config.tokenizer_metadata` gives it. `quantization` is the name
    of one. Without a window it is the model's own. The prefill chunk is the given or the model's
    default one, at most the window.
    Token ids and sampling defaults come from generation_config.json, then config.json.

    Raises:
        OlmoError: a broken config, tokenizer or template, or a value out of range.
    """
    conversation = template(conv_template)
    base = OLMoConfig.from_huggingface(config_json)
    facts = read_tokenizer(tokenizer, gguf_tokenizer)
    warnings: list[str] = list(facts.warnings)
    config = _with_windows(base, context_window_size, prefill_chunk_size, warnings)
    overrides = {
        "tensor_parallel_shards": tensor_parallel_shards,
        "pipeline_parallel_stages": pipeline_parallel_stages,
        "max_batch_size": max_batch_size,
    }
    config = config.with_overrides(**{k: v for k, v in overrides.items() if v is not None})
    _check_sliding(sliding_window_size, attention_sink_size)
    if facts.size > config.vocab_size:
        raise OlmoError(
            f"{tokenizer}: the tokenizer has {facts.size} tokens, but vocab_size of config.json "
            f"is {config.vocab_size}"
        )
    sources = _sources(config_json, generation_config)
    ids = _token_ids(sources, config.vocab_size)
    warnings += _unknown_tokens(conversation, config.vocab_size)
    chat_config = {
        "version": VERSION,
        "model_type": MODEL_TYPE,
        "quantization": quantization,
        "model_config": config.to_json(),
        "vocab_size": config.vocab_size,
        "context_window_size": config.context_window_size,
        "sliding_window_size": sliding_window_size,
        "prefill_chunk_size": config.prefill_chunk_size,
        "attention_sink_size": attention_sink_size,
        "tensor_parallel_shards": config.tensor_parallel_shards,
        "pipeline_parallel_stages": config.pipeline_parallel_stages,
        "active_vocab_size": facts.size,
        **_sampling(sources),
        "tokenizer_files": list(facts.files),
        "tokenizer_info": facts.info.to_json(),
        "conv_template": conversation.to_json(),
        **ids,
        "model_task": "chat",
        "embedding_metadata": None,
    }
    return Generated(chat_config, facts.files, tuple(warnings), facts.made)


def encode(chat_config: Mapping[str, Any]) -> bytes:
    """Return the bytes of `mlc-chat-config.json`: indent 2, ASCII, no newline at the end."""
    return json.dumps(chat_config, indent=2).encode("ascii")


def write(
    generated: Generated, tokenizer: Path, out: Path, others: Mapping[str, bytes] | None = None
) -> None:
    """Write the chat config, `others` by file name, and copies of the tokenizer's files to `out`.

    Everything appears or nothing; other files in `out` stay.

    Raises:
        OlmoError: a file cannot be read or written.
    """
    with staged(out, manifests=(CHAT_CONFIG,)) as directory:
        for name in generated.tokenizer_files:
            if name not in generated.made:
                shutil.copyfile(tokenizer / name, directory / name)
        for name, content in {**generated.made, **(others or {})}.items():
            (directory / name).write_bytes(content)
        (directory / CHAT_CONFIG).write_bytes(encode(generated.chat_config))


def _with_windows(
    base: OLMoConfig, window: int | None, chunk: int | None, warnings: list[str]
) -> OLMoConfig:
    trained = base.context_window_size
    config = base if window is None else base.with_overrides(context_window_size=window)
    if config.context_window_size > trained and config.rope_scaling is None:
        warnings.append(
            f"context_window_size {window} is beyond the {trained} positions the model was trained "
            "with (max_position_embeddings), and config.json has no RoPE scaling"
        )
    if chunk is None:
        return config
    if type(chunk) is int and chunk > config.context_window_size:
        warnings.append(
            f"prefill_chunk_size {chunk} is larger than the context window: "
            f"{config.context_window_size} is used"
        )
        chunk = config.context_window_size
    return config.with_overrides(prefill_chunk_size=chunk)


def _check_sliding(window: int, sink: int) -> None:
    for name, value in (("sliding_window_size", window), ("attention_sink_size", sink)):
        if type(value) is not int or (value < 1 and value != -1):
            raise OlmoError(f"{name} must be a positive integer, or -1 for none, not {value!r}")
    if sink != -1 and window == -1:
        raise OlmoError("attention_sink_size needs a sliding_window_size")


def _sources(
    config_json: object, generation_config: object | None
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return what may hold token ids and sampling defaults, the first that has a value wins."""
    named = (
        ("generation_config.json", {} if generation_config is None else generation_config),
        ("config.json", config_json),
    )
    for name, obj in named:
        if not isinstance(obj, Mapping):
            raise OlmoError(f"{name}: expected a table of fields, found {type(obj).__name__}")
    return tuple((name, obj) for name, obj in named if isinstance(obj, Mapping))


def _token_ids(
    sources: tuple[tuple[str, Mapping[str, Any]], ...], vocab_size: int
) -> dict[str, Any]:
    ids: dict[str, Any] = {}
    for key, default in _TOKEN_IDS.items():
        ids[key] = default
        for name, obj in sources:
            value = obj.get(key)
            if value is None:
                continue
            listed = value if isinstance(value, list) and key == "eos_token_id" else [value]
            if not listed or not all(type(i) is int and 0 <= i < vocab_size for i in listed):
                raise OlmoError(
                    f"{name}: {key} must be a token id below vocab_size {vocab_size}, not {value!r}"
                )
            ids[key] = value
            break
    return ids


def _sampling(sources: tuple[tuple[str, Mapping[str, Any]], ...]) -> dict[str, float]:
    values = {}
    for key, (default, smallest, largest) in _SAMPLING.items():
        values[key] = default
        for name, obj in sources:
            value = obj.get(key)
            if value is None:
                continue
            if (
                not isinstance(value, int | float)
                or isinstance(value, bool)
                or not smallest <= value <= largest
            ):
                raise OlmoError(f"{name}: {key} is out of range: {value!r}")
            values[key] = float(value)
            break
    return values


def _unknown_tokens(conversation: Conversation, vocab_size: int) -> list[str]:
    """Warn of a template made for another tokenizer, naming tokens that this model lacks."""
    return [
        f"conversation template {conversation.name!r}: {key} holds {token}, but the model has "
        f"{vocab_size} tokens"
        for key in ("system_prefix_token_ids", "stop_token_ids")
        for token in getattr(conversation, key) or ()
        if token >= vocab_size
    ]
