"""Generate a model's chat configuration for one quantization and window."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo import chat_config
from olmo.compile_spec import CompileSpec
from olmo.errors import OlmoError


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> tuple[str, ...]:
    """Write `mlc-chat-config.json`, the tokenizer's files and `compile-spec.json`.

    Returns warnings, such as a window beyond what the model was trained with.
    """
    checkpoint = inputs / "checkpoint"
    generation = checkpoint / "generation_config.json"
    made = chat_config.generate(
        _read(checkpoint / "config.json"),
        _read(generation) if generation.exists() else None,
        checkpoint,
        params["quantization"],
        params["conv_template"],
        context_window_size=params["context_window_size"],
    )
    spec = CompileSpec.from_chat_config(made.chat_config)
    chat_config.write(made, checkpoint, outputs, {"compile-spec.json": spec.to_json()})
    return made.warnings


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise OlmoError(f"{path.name} is not valid JSON: {error}") from None
