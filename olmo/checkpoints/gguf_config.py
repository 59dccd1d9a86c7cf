"""The configuration that a GGUF file carries in its metadata, in the form of a config.json.

llama.cpp stores reals as float32, so a theta of 10000.1 comes back as its nearest float32: values
are compared as such. What its architecture `olmo` fixes is fixed here: SiLU, no biases, no norm
weights.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo.checkpoints.gguf_header import Header, read_header
from olmo.configuration.config import MODEL_TYPE, OLMoConfig
from olmo.configuration.rope_scaling import BETA_FAST, BETA_SLOW
from olmo.errors import OlmoError

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
NORM_EPSILON = 1e-5  # of OLMo's layer norm, in transformers and llama.cpp's converter
FLOAT32_MAX = 3.4028234663852886e38

_ARCHITECTURE = "general.architecture"
_PREFIX = f"{MODEL_TYPE}."
_HINT = "put the model's config.json beside the file and name it as CONFIG"

# Metadata (without the prefix) and the fields of a config.json that hold the same.
_SIZES: Mapping[str, str] = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "context_length": "max_position_embeddings",
}
_KV_HEADS, _THETA, _CLIP = "attention.head_count_kv", "rope.freq_base", "attention.clamp_kqv"
_HEAD_DIMS = ("rope.dimension_count", "attention.key_length", "attention.value_length")
_EPSILON, _VOCABULARY = "attention.layer_norm_epsilon", "vocab_size"
_SCALING = "rope.scaling."
# For each kind of scaling the keys that it needs, and those that it may have.
_SCALINGS: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "linear": ({"factor": "factor"}, {}),
    "yarn": (
        {"factor": "factor", "original_context_length": "original_max_position_embeddings"},
        {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "finetuned": "finetuned"},
    ),
}
# What only one value of is computed as transformers does, and what says nothing of the arithmetic.
_SCALING_FIXED: Mapping[str, tuple[float, ...]] = {
    "attn_factor": (1.0,),
    "yarn_attn_factor": (1.0,),
    "yarn_ext_factor": (1.0, -1.0),  # below zero: the kind's own, which is 1
}
_SCALING_IGNORED = {"type", "finetuned"}
_YARN_DEFAULTS = {"beta_fast": BETA_FAST, "beta_slow": BETA_SLOW}
_KNOWN = {*_SIZES, _KV_HEADS, _THETA, _CLIP, *_HEAD_DIMS, _EPSILON, _VOCABULARY}

_TOKENIZER = "tokenizer.ggml."
_TOKENS: Mapping[str, str] = {
    f"{_TOKENIZER}bos_token_id": "bos_token_id",
    f"{_TOKENIZER}eos_token_id": "eos_token_id",
    f"{_TOKENIZER}padding_token_id": "pad_token_id",
}


def read_config(paths: Sequence[Path]) -> dict[str, Any]:
    """Return what the GGUF files of one model say of it, in the form of a config.json.

    Raises:
        OlmoError: a broken file, another architecture, or metadata that are missing or unknown.
    """
    headers = [read_header(path) for path in paths]
    tensors = tuple(info for header in headers for info in header.tensors)
    return config_json(Header(headers[0].metadata, tensors), str(paths[0]))


def tokenizer_metadata(path: Path) -> dict[str, Any]:
    """Return what a GGUF file says of its tokenizer, by key without `tokenizer.ggml.`; {} if nothing.

    Raises:
        OlmoError: a broken file.
    """
    return {
        key.removeprefix(_TOKENIZER): value
        for key, value in read_header(path).metadata.items()
        if key.startswith(_TOKENIZER)
    }


def config_json(header: Header, file: str) -> dict[str, Any]:
    """Return what the header of a whole model says, in the form of a Hugging Face config.json.

    Raises:
        OlmoError: another architecture, or metadata that are missing, unknown or contradictory.
    """
    _check_architecture(header.metadata, file)
    own = {
        key.removeprefix(_PREFIX): value
        for key, value in header.metadata.items()
        if key.startswith(_PREFIX)
    }
    if unknown := sorted(key for key in own if key not in _KNOWN and not key.startswith(_SCALING)):
        raise OlmoError(f"{file}: unknown metadata key {_PREFIX}{unknown[0]}", _HINT)
    shapes = {info.name: info.shape for info in header.tensors}
    if EMBEDDING not in shapes:
        raise OlmoError(f"{file}: has no tensor {EMBEDDING!r}")
    found: dict[str, Any] = {"model_type": MODEL_TYPE, "hidden_act": "silu"}
    found |= {name: _needed(own, key, file) for key, name in _SIZES.items()}
    found["num_key_value_heads"] = own.get(_KV_HEADS, found["num_attention_heads"])
    found["vocab_size"] = shapes[EMBEDDING][0]
    found["tie_word_embeddings"] = HEAD not in shapes
    found["rope_theta"] = own.get(_THETA, 10000.0)
    found["rope_scaling"] = _rope_scaling(own, file)
    found["clip_qkv"] = own.get(_CLIP) or None  # llama.cpp: 0 is none
    found |= {name: header.metadata.get(key) for key, name in _TOKENS.items()}
    config = OLMoConfig.from_huggingface(found, file)
    _check_fixed(own, config, file)
    return found


def check_agreement(header: Header, config: OLMoConfig, file: str) -> None:
    """Compare what metadata say of a model's tensors with `config`, where there are any.

    The further files of a model in several hold none.

    Raises:
        OlmoError: another architecture, or a number that is not that of `config`.
    """
    if _ARCHITECTURE not in header.metadata:
        return
    _check_architecture(header.metadata, file)
    expected = {
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        _KV_HEADS: config.num_key_value_heads,
        **dict.fromkeys(_HEAD_DIMS, config.head_dim),
    }
    for key, value in expected.items():
        said = header.metadata.get(_PREFIX + key, value)
        if said != value:
            raise OlmoError(
                f"{file}: {_PREFIX}{key} is {said!r}, but {value} by config.json",
                "is this config.json of another model?",
            )


def check_same(given: Mapping[str, Any], where: str, carried: Mapping[str, Any], file: str) -> None:
    """Compare a config.json with what the GGUF `file` says, in every field of the model.

    Raises:
        OlmoError: a field differs (it is named), or either is broken.
    """
    said = OLMoConfig.from_huggingface(given, where)
    for name, value in OLMoConfig.from_huggingface(carried, file).to_json().items():
        other = getattr(said, name)
        if _as_stored(other) == _as_stored(value):
            continue
        if name == "hidden_act" and other == "swish":  # another name of silu
            continue
        raise OlmoError(
            f"{where}: {name} is {other!r}, but {value!r} in {file}",
            "correct it, or take config.json away to use what the GGUF file says",
        )


def _as_stored(value: Any) -> Any:
    """Return reals as llama.cpp stores them, in float32, and defaults where they are left out."""
    if isinstance(value, Mapping):  # a RoPE scaling: what it leaves out has a default
        filled = _YARN_DEFAULTS if value.get("rope_type") == "yarn" else {}
        filled = {**filled, **value}
        return {key: _as_stored(item) for key, item in filled.items() if key != "finetuned"}
    if isinstance(value, float) and abs(value) <= FLOAT32_MAX:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    return value


def _check_architecture(metadata: Mapping[str, Any], file: str) -> None:
    architecture = metadata.get(_ARCHITECTURE)
    if architecture != MODEL_TYPE:
        raise OlmoError(
            f"{file}: {_ARCHITECTURE} is {architecture!r}, but Olmill builds {MODEL_TYPE!r} models"
        )


def _check_fixed(own: Mapping[str, Any], config: OLMoConfig, file: str) -> None:
    """Hold metadata that OLMo leaves no choice in against what it has."""
    expected = {
        _EPSILON: NORM_EPSILON,
        _VOCABULARY: config.vocab_size,
        **dict.fromkeys(_HEAD_DIMS, config.head_dim),
    }
    for key, value in expected.items():
        said = own.get(key, value)
        if _as_stored(said) != _as_stored(value):
            raise OlmoError(f"{file}: {_PREFIX}{key} is {said!r}, but OLMo's is {value!r}", _HINT)


def _rope_scaling(own: Mapping[str, Any], file: str) -> dict[str, Any] | None:
    kind = own.get(f"{_SCALING}type", "none")
    if kind == "none":
        return None
    if not isinstance(kind, str) or kind not in _SCALINGS:
        raise OlmoError(f"{file}: unknown {_PREFIX}{_SCALING}type {kind!r}", _HINT)
    needed, optional = _SCALINGS[kind]
    given = {
        key.removeprefix(_SCALING): value for key, value in own.items() if key.startswith(_SCALING)
    }
    for key, value in given.items():
        if key in _SCALING_FIXED:
            if value not in _SCALING_FIXED[key]:
                raise OlmoError(
                    f"{file}: {_PREFIX}{_SCALING}{key} is {value!r}, but only 1.0 is computed",
                    _HINT,
                )
        elif key not in {*needed, *optional, *_SCALING_IGNORED}:
            raise OlmoError(f"{file}: unknown metadata key {_PREFIX}{_SCALING}{key}", _HINT)
    found = {"rope_type": kind}
    found |= {name: _needed(own, _SCALING + key, file) for key, name in needed.items()}
    return found | {name: given[key] for key, name in optional.items() if key in given}


def _needed(own: Mapping[str, Any], key: str, file: str) -> Any:
    if key not in own:
        raise OlmoError(f"{file}: the metadata key {_PREFIX}{key} is missing", _HINT)
    return own[key]
