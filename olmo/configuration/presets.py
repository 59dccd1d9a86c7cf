"""The public OLMo 1 models by name: what their config.json says, without a download.

Sources: the files OLMo-1B, OLMo-7B, OLMo-1.7-7B and OLMo-7B-0724 of configs/official in
github.com/allenai/OLMo, as transformers' convert_olmo_weights_to_hf.py writes them to config.json:
`vocab_size` is `embedding_size`, `intermediate_size` half of `mlp_hidden_size` (or of `mlp_ratio`
times the hidden size), `rope_theta` 10000. By its model card OLMo-7B-0424-hf is OLMo 1.7 7B.
OLMo-1B-0724-hf is left out: its model card says sizes and window, but neither `clip_qkv` nor
whether the embedding is tied, and there is no such file for it. Imports neither numpy nor tvm.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from olmo.configuration.config import OLMoConfig
from olmo.errors import unknown

_COMMON: Mapping[str, Any] = {
    "architectures": ["OlmoForCausalLM"],
    "model_type": "olmo",
    "vocab_size": 50304,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "eos_token_id": 50279,
    "pad_token_id": 1,
}
_1B: Mapping[str, Any] = {
    **_COMMON,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 16,
    "intermediate_size": 8192,
    "tie_word_embeddings": True,
}
_7B: Mapping[str, Any] = {
    **_COMMON,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "num_hidden_layers": 32,
    "intermediate_size": 11008,
    "tie_word_embeddings": False,
}
_FIRST: Mapping[str, Any] = {"max_position_embeddings": 2048, "clip_qkv": None}
_LONGER: Mapping[str, Any] = {"max_position_embeddings": 4096, "clip_qkv": 8.0}

# config.json by the repository's name under allenai/
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "OLMo-1B-hf": {**_1B, **_FIRST},
        "OLMo-7B-hf": {**_7B, **_FIRST},
        "OLMo-7B-0424-hf": {**_7B, **_LONGER},  # OLMo 1.7 7B
        "OLMo-7B-0724-hf": {**_7B, **_LONGER},
    }
)


def preset(name: str) -> OLMoConfig:
    """Return the configuration of a public model, such as "OLMo-1B-hf".

    Raises:
        OlmoError: no such preset.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return OLMoConfig.from_huggingface(PRESETS[name], name)
