"""Small checkpoints for tests: a config and random weights, written as safetensors."""

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from olmo.configuration.config import OLMoConfig
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


def write_torch(directory: Path, values: Tensors, **changes: Any) -> Path:
    write_config(directory, **changes)
    (directory / "pytorch_model.bin").write_bytes(torch_bytes(values))
    return directory


def pickled_tensor(
    offset: Any = 0,
    size: Any = (2, 2),
    stride: Any = (2, 1),
    *,
    key: Any = "0",
    kind: bytes = b"torch\nFloatStorage",
    elements: Any = 4,
    rebuild: bytes = b"torch._utils\n_rebuild_tensor_v2",
) -> bytes:
    """Return the opcodes torch writes for a tensor: names of its functions, a persistent id."""

    def dumped(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    storage = b"(" + dumped("storage") + b"c" + kind + b"\n" + dumped(key) + dumped("cpu")
    storage += dumped(elements) + b"tQ"
    return (
        b"c" + rebuild + b"\n(" + storage + dumped(offset) + dumped(size) + dumped(stride) + b"tR"
    )


def pickled_table(entries: Mapping[str, bytes]) -> bytes:
    """Return the pickle of a table whose values are opcodes."""
    items = (pickle.dumps(name, 2)[2:-1] + value + b"s" for name, value in entries.items())
    return b"\x80\x02}" + b"".join(items) + b"."


def torch_archive(pickled: bytes, entries: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in {"data.pkl": pickled, **entries}.items():
            archive.writestr(f"x/{name}", data)
    return written.getvalue()


def torch_bytes(values: Tensors) -> bytes:
    """Return what `torch.save` writes for a state dict of tensors without gaps."""
    kinds = {
        "float32": b"FloatStorage",
        "float16": b"HalfStorage",
        "bfloat16": b"BFloat16Storage",
        "int32": b"IntStorage",
    }
    table = {
        name: pickled_tensor(
            size=value.shape,
            stride=tuple(step // value.itemsize for step in value.strides),
            key=str(key),
            kind=b"torch\n" + kinds[str(value.dtype)],
            elements=value.size,
        )
        for key, (name, value) in enumerate(values.items())
    }
    storages = {f"data/{key}": value.tobytes("A") for key, value in enumerate(values.values())}
    return torch_archive(pickled_table(table), {"byteorder": b"little", **storages})


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
