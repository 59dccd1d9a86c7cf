"""Small checkpoints for tests: a config and random weights, written as safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from olmo.config import OLMoConfig
from olmo.weights import weights

CONFIG: Mapping[str, Any] = {
    "architectures": ["OlmoForCausalLM"],
    "model_type": "olmo",
    "vocab_size": 40,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "clip_qkv": None,
}

Tensors = dict[str, NDArray[Any]]


def config(**changes: Any) -> OLMoConfig:
    return OLMoConfig.from_huggingface({**CONFIG, **changes})


def tensors(model: OLMoConfig, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        source.name: (rng.standard_normal(source.shape) * 0.1).astype(np.float32)
        for weight in weights(model)
        for source in weight.sources
    }


def write_config(directory: Path, **changes: Any) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    obj = {key: value for key, value in {**CONFIG, **changes}.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(obj))


def write_single(directory: Path, values: Tensors, **changes: Any) -> Path:
    write_config(directory, **changes)
    save_file(values, directory / "model.safetensors")
    return directory


def write_sharded(directory: Path, files: list[Tensors], **changes: Any) -> Path:
    write_config(directory, **changes)
    weight_map: dict[str, str] = {}
    for number, values in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file(values, directory / name)
        weight_map |= dict.fromkeys(values, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
