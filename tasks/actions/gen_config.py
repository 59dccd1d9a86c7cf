"""Generate a model's chat configuration for one quantization and window."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.configuration import chat_config
from olmo.configuration.compile_spec import CompileSpec
from olmo.json_file import read_json
from olmo.quantization import Quantization


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> tuple[str, ...]:
    """Write `mlc-chat-config.json`, the tokenizer's files and `compile-spec.json`.

    Returns warnings, such as a window beyond what the model was trained with.
    """
    quantization = Quantization.from_json(params["quantization"])
    checkpoint = inputs / "checkpoint"
    generation = checkpoint / "generation_config.json"
    gguf = checkpoint / "gguf-tokenizer.json"
    made = chat_config.generate(
        read_json(checkpoint / "config.json"),
        read_json(generation) if generation.exists() else None,
        checkpoint,
        quantization.name,
        params["conv_template"],
        gguf_tokenizer=read_json(gguf) if gguf.exists() else None,
        context_window_size=params["context_window_size"],
        tensor_parallel_shards=params.get("tensor_parallel_shards"),
        pipeline_parallel_stages=params.get("pipeline_parallel_stages"),
    )
    spec = CompileSpec.from_chat_config(made.chat_config, quantization)
    chat_config.write(made, checkpoint, outputs, {"compile-spec.json": spec.to_json()})
    return made.warnings
