"""Small GGUF files for tests, written by gguf's own writer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

from olmo.configuration.config import OLMoConfig
from tests.olmo.sample_checkpoints import CONFIG, Tensors

PARTS: Mapping[str, str] = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "lm_head.weight":
        return "output.weight"
    _, _, layer, *part, _ = name.split(".")
    return f"blk.{layer}.{PARTS['.'.join(part)]}.weight"


def permuted(w: np.ndarray[Any, Any], head_dim: int) -> np.ndarray[Any, Any]:
    """Reorder rows as llama.cpp's converter does."""
    heads = len(w) // head_dim
    return w.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(w.shape)


def metadata(**changes: Any) -> dict[str, Any]:
    """Return what llama.cpp writes for `tests.olmo.checkpoints.CONFIG`."""
    values = {
        "olmo.block_count": CONFIG["num_hidden_layers"],
        "olmo.context_length": CONFIG["max_position_embeddings"],
        "olmo.embedding_length": CONFIG["hidden_size"],
        "olmo.feed_forward_length": CONFIG["intermediate_size"],
        "olmo.attention.head_count": CONFIG["num_attention_heads"],
        "olmo.attention.head_count_kv": CONFIG["num_key_value_heads"],
        "olmo.rope.freq_base": CONFIG["rope_theta"],
        "olmo.attention.layer_norm_epsilon": 1e-5,
        "tokenizer.ggml.tokens": ["a", "b", "é"],
        "tokenizer.ggml.eos_token_id": 2,
    }
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in values.items() if value is not ...}


def write_gguf(
    path: Path,
    model: OLMoConfig,
    values: Tensors,
    kind: str = "F32",
    *,
    architecture: str = "olmo",
    said: Mapping[str, Any] | None = None,
) -> Path:
    """Write `values` (Hugging Face names) as one GGUF file of the given ggml type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (metadata() if said is None else said).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    dtype = gguf.GGMLQuantizationType[kind]
    for name, value in values.items():
        w = value
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            w = permuted(value, model.head_dim)
        stored = quantize(np.ascontiguousarray(w, np.float32), dtype)
        writer.add_tensor(gguf_name(name), stored, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
