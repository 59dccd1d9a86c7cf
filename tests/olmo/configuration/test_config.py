import json
import subprocess
import sys
from typing import Any

import pytest

from olmo.configuration.config import ACTIVATIONS, OLMoConfig, architecture
from olmo.errors import OlmoError
from tests.olmo.sample_checkpoints import CONFIG


def read(**changes: Any) -> OLMoConfig:
    """Read the test config with changes; ... removes a field."""
    obj = {key: value for key, value in {**CONFIG, **changes}.items() if value is not ...}
    return OLMoConfig.from_huggingface(obj)


def failure(**changes: Any) -> OlmoError:
    with pytest.raises(OlmoError) as caught:
        read(**changes)
    return caught.value


def test_reads_every_field() -> None:
    config = read(clip_qkv=8, tie_word_embeddings=True)
    assert list(config.to_json().items()) == [
        ("vocab_size", 40),
        ("hidden_size", 32),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 2),
        ("head_dim", 8),
        ("position_embedding_base", 10000.0),
        ("rope_scaling", None),
        ("intermediate_size", 48),
        ("hidden_act", "silu"),
        ("num_hidden_layers", 2),
        ("tie_word_embeddings", True),
        ("context_window_size", 64),
        ("prefill_chunk_size", 64),
        ("tensor_parallel_shards", 1),
        ("pipeline_parallel_stages", 1),
        ("max_batch_size", 128),
        ("clip_qkv", 8.0),
    ]
    assert isinstance(config.clip_qkv, float)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocab_size", 2**31, "vocab_size must be at most 2147483647, not 2147483648"),
        ("max_position_embeddings", 10**30, "max_position_embeddings must be at most 2147483647"),
        ("num_hidden_layers", 10_001, "num_hidden_layers must be at most 10000, not 10001"),
        ("rope_theta", 10**400, "rope_theta must be a positive number, not 1000"),
        ("clip_qkv", 10**400, "clip_qkv must be a positive number, not 1000"),
    ],
)
def test_numbers_beyond_all_models(name: str, value: int, message: str) -> None:
    assert str(failure(**{name: value})).startswith(f"config.json: {message}")


def test_overrides_beyond_all_runtimes() -> None:
    with pytest.raises(OlmoError, match=r"^context_window_size must be at most 2147483647"):
        read().with_overrides(context_window_size=2**31)


def test_defaults_of_absent_fields() -> None:
    config = read(num_key_value_heads=..., tie_word_embeddings=..., clip_qkv=...)
    assert config.num_key_value_heads == 4
    assert config.tie_word_embeddings is False
    assert config.clip_qkv is None
    assert read(num_key_value_heads=None).num_key_value_heads == 4


def test_prefill_chunk_is_at_most_8192() -> None:
    assert read(max_position_embeddings=10000).prefill_chunk_size == 8192


NEEDED = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "num_hidden_layers",
    "max_position_embeddings",
    "hidden_act",
    "model_type",
    "rope_theta",
)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [..., None])
def test_a_needed_field(name: str, value: Any) -> None:
    assert str(failure(**{name: value})) == f"config.json: the field {name!r} is missing"


@pytest.mark.parametrize("name", NEEDED[:6])
@pytest.mark.parametrize("value", [0, -3, 2.5, "8", True])
def test_a_size_that_is_none(name: str, value: Any) -> None:
    expected = f"config.json: {name} must be a positive integer, not {value!r}"
    assert str(failure(**{name: value})) == expected


@pytest.mark.parametrize("family", ["llama", "olmo2", "olmoe", "hf_olmo", 3])
def test_another_family(family: Any) -> None:
    error = failure(model_type=family)
    expected = f"config.json: model_type is {family!r}, but Olmill builds 'olmo' models"
    assert str(error) == expected
    assert error.hint is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 34}, "hidden_size 34 is not divisible by num_attention_heads 4"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        ({"head_dim": 4}, "head_dim 4 times num_attention_heads 4 is not hidden_size 32"),
        ({"hidden_size": 36}, "head_dim 9 is odd: rotary embedding rotates pairs"),
        ({"attention_bias": True}, "attention_bias is True, but OLMo has no biases"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, not 1"),
        ({"clip_qkv": 0}, "clip_qkv must be a positive number, not 0"),
        ({"clip_qkv": "8"}, "clip_qkv must be a positive number, not '8'"),
        ({"rope_theta": float("inf")}, "rope_theta must be a positive number, not inf"),
        ({"rope_scaling": [1]}, "rope_scaling: expected a table of fields, found list"),
        ({"rope_scaling": {"type": "linear"}}, "'linear' scaling needs the field 'factor'"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor must be a positive number"),
        (
            {
                "rope_theta": 1,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 2,
                    "original_max_position_embeddings": 9,
                },
            },
            "'yarn' scaling needs a position_embedding_base above 1, not 1.0",
        ),
    ],
)
def test_a_contradiction(changes: dict[str, Any], message: str) -> None:
    error = str(failure(**changes))
    assert error.startswith("config.json: ")
    assert message in error


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_known_activations(name: str) -> None:
    assert read(hidden_act=name).hidden_act == name


def test_unknown_activation() -> None:
    error = failure(hidden_act="gelu-new")
    assert str(error) == "config.json: unknown activation hidden_act 'gelu-new'"
    assert error.hint == "did you mean 'gelu_new'?"


def test_not_a_table() -> None:
    with pytest.raises(OlmoError, match=r"config\.json: expected a table of fields, found list"):
        OLMoConfig.from_huggingface([])


def test_rotary_base_of_both_transformers_versions() -> None:
    five = {"rope_theta": 5e5, "rope_type": "default"}
    for config in (
        read(rope_theta=500000),
        read(rope_theta=..., rope_parameters=five),
        read(rope_theta=500000, rope_parameters=five),
        read(rope_theta=500000, rope_parameters=None),
    ):
        assert config.position_embedding_base == 500000.0
        assert config.rope_scaling is None


def test_rotary_bases_that_disagree() -> None:
    error = failure(rope_theta=1e4, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    assert str(error) == (
        "config.json: rope_theta is 10000.0, but rope_parameters.rope_theta is 500000.0"
    )


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_scaling_of_both_transformers_versions() -> None:
    expected = {"rope_type": "llama3", **dict(sorted(LLAMA3.items()))}
    for config in (
        read(rope_scaling={**LLAMA3, "type": "llama3"}),
        read(rope_scaling={**LLAMA3, "rope_type": "llama3"}),
        read(rope_parameters={**LLAMA3, "rope_type": "llama3", "rope_theta": 1e4}),
        read(rope_scaling={"rope_type": "llama3", **LLAMA3}, rope_parameters=expected),
    ):
        assert config.rope_scaling == expected
        assert list(config.to_json()["rope_scaling"]) == list(expected)


def test_scalings_that_disagree() -> None:
    error = failure(rope_scaling=None, rope_parameters={"rope_type": "linear", "factor": 2.0})
    assert "rope_scaling is None, but rope_parameters is {'rope_type': 'linear'" in str(error)


def test_unknown_scaling() -> None:
    error = failure(rope_scaling={"type": "yarm", "factor": 2})
    assert str(error) == "config.json: rope_scaling: unknown kind 'yarm'"
    assert error.hint == "did you mean 'yarn'?"


def test_model_config_form_round_trips() -> None:
    config = read(rope_scaling={"type": "linear", "factor": 2}, clip_qkv=8.0)
    assert OLMoConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert hash(config) == hash(read(rope_scaling=None, clip_qkv=8.0))


def test_model_config_form_is_strict() -> None:
    obj = read().to_json()
    with pytest.raises(OlmoError, match="unknown field of model_config 'hidden_sise'") as caught:
        OLMoConfig.from_json({**obj, "hidden_sise": 3})
    assert caught.value.hint == "did you mean 'hidden_size'?"
    del obj["hidden_size"]
    with pytest.raises(OlmoError, match="model_config: the field 'hidden_size' is missing"):
        OLMoConfig.from_json(obj)
    with pytest.raises(OlmoError, match="chat: expected a table of fields"):
        OLMoConfig.from_json(None, "chat")


def test_overrides() -> None:
    config = read()
    assert config.with_overrides(context_window_size=16).prefill_chunk_size == 16
    larger = config.with_overrides(context_window_size=256)
    assert (larger.context_window_size, larger.prefill_chunk_size) == (256, 64)
    assert config.with_overrides(max_batch_size=3).max_batch_size == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"context_window": 3}, "unknown config field 'context_window'"),
        ({"context_window_size": 0}, "context_window_size must be a positive integer, not 0"),
        ({"prefill_chunk_size": 65}, "prefill_chunk_size 65 is larger than context_window_size 64"),
        ({"tensor_parallel_shards": 4}, "4 does not divide num_key_value_heads 2"),
        (
            {"pipeline_parallel_stages": 3},
            "pipeline_parallel_stages 3 does not divide num_hidden_layers 2",
        ),
    ],
)
def test_overrides_are_validated(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(OlmoError) as caught:
        read().with_overrides(**overrides)
    assert message in str(caught.value)


def test_architecture_is_what_conversion_depends_on() -> None:
    base = architecture(CONFIG)
    irrelevant: dict[str, Any] = {
        "max_position_embeddings": 4096,
        "rope_theta": 5e5,
        "hidden_act": "gelu",
        "clip_qkv": 8.0,
        "torch_dtype": "bfloat16",
        "transformers_version": "5",
    }
    assert architecture({**CONFIG, **irrelevant}) == base
    assert architecture({**CONFIG, "num_hidden_layers": 3}) != base
    assert base["model_type"] == "olmo"


def test_architecture_makes_a_config() -> None:
    config = OLMoConfig.from_architecture(architecture(CONFIG))
    assert architecture({**CONFIG}) == {
        "model_type": "olmo",
        **{name: getattr(config, name) for name in architecture(CONFIG) if name != "model_type"},
    }
    with pytest.raises(OlmoError, match="architecture: model_type is None, not 'olmo'"):
        OLMoConfig.from_architecture({})
    with pytest.raises(OlmoError, match="unknown field of architecture 'clip_qkv'"):
        OLMoConfig.from_architecture({**architecture(CONFIG), "clip_qkv": None})


def test_light_modules_import_neither_numpy_nor_tvm() -> None:
    code = (
        "import sys, olmo, olmo.configuration.config, olmo.errors, olmo.quantization, olmo.weights\n"
        "print([m for m in ('numpy', 'tvm', 'ml_dtypes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
