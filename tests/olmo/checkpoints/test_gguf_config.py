from pathlib import Path
from typing import Any

import pytest

from olmo.checkpoints.gguf_config import check_same, config_json, read_config
from olmo.checkpoints.gguf_header import Header, TensorInfo
from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.json_file import read_json
from tests.olmo.gguf_files import metadata, write_gguf
from tests.olmo.sample_checkpoints import CONFIG, config, tensors

GOLDEN = Path(__file__).parents[2] / "golden"
EMBEDDING = TensorInfo("token_embd.weight", "F32", (40, 32), 0, 1, 4)
HEAD = TensorInfo("output.weight", "F32", (40, 32), 0, 1, 4)


def said(tensors: tuple[TensorInfo, ...] = (EMBEDDING, HEAD), **changes: Any) -> dict[str, Any]:
    given = {key.replace("__", "."): value for key, value in changes.items()}
    values = {"general.architecture": "olmo", **metadata(), **given}
    kept = {key: value for key, value in values.items() if value is not ...}
    return config_json(Header(kept, tensors), "m.gguf")


def parsed(**changes: Any) -> OLMoConfig:
    return OLMoConfig.from_huggingface(said(**changes))


@pytest.mark.parametrize("path", sorted((GOLDEN / "pub-a-gguf").iterdir()), ids=lambda p: p.name)
def test_llama_cpps_own_files(path: Path) -> None:
    given = read_json(GOLDEN / "pub-a" / "config.json")
    found = read_config([path])
    assert OLMoConfig.from_huggingface(found) == OLMoConfig.from_huggingface(given)
    assert (found["eos_token_id"], found["pad_token_id"], found["bos_token_id"]) == (0, 1, None)
    check_same(given, "config.json", found, path.name)


def test_the_files_of_one_model_are_read_together(tmp_path: Path) -> None:
    values = tensors(config())
    head = {"lm_head.weight": values.pop("lm_head.weight")}
    first = write_gguf(tmp_path / "1.gguf", config(), values)
    second = write_gguf(tmp_path / "2.gguf", config(), head, said={})
    assert read_config([first, second])["tie_word_embeddings"] is False
    assert read_config([first])["tie_word_embeddings"] is True


def test_defaults() -> None:
    found = parsed(olmo__attention__head_count_kv=..., olmo__rope__freq_base=...)
    assert found.num_key_value_heads == CONFIG["num_attention_heads"]
    assert found.position_embedding_base == 10000.0
    assert found.clip_qkv is None
    assert parsed(olmo__attention__clamp_kqv=0.0).clip_qkv is None
    assert parsed(olmo__attention__clamp_kqv=8.0).clip_qkv == 8.0
    assert parsed(tensors=(EMBEDDING,)).tie_word_embeddings


def test_scaling() -> None:
    linear = {"olmo__rope__scaling__type": "linear", "olmo__rope__scaling__factor": 2.0}
    assert parsed(**linear).rope_scaling == {"rope_type": "linear", "factor": 2.0}
    yarn = parsed(
        olmo__rope__scaling__type="yarn",
        olmo__rope__scaling__factor=4.0,
        olmo__rope__scaling__original_context_length=16,
    )
    assert yarn.rope_scaling == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    assert parsed(olmo__rope__scaling__type="none").rope_scaling is None


YARN = {
    "olmo__rope__scaling__type": "yarn",
    "olmo__rope__scaling__factor": 4.0,
    "olmo__rope__scaling__original_context_length": 16,
}


def test_further_keys_of_yarn() -> None:
    found = parsed(
        **YARN,
        olmo__rope__scaling__yarn_beta_fast=24.0,
        olmo__rope__scaling__yarn_beta_slow=2.0,
        olmo__rope__scaling__finetuned=True,
        olmo__rope__scaling__attn_factor=1.0,
        olmo__rope__scaling__yarn_ext_factor=-1.0,
        olmo__rope__scaling__yarn_attn_factor=1.0,
    )
    assert found.rope_scaling == {
        "rope_type": "yarn",
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "factor": 4.0,
        "finetuned": True,
        "original_max_position_embeddings": 16,
    }


@pytest.mark.parametrize("explicit", [True, False])
def test_defaults_of_yarn_are_no_contradiction(explicit: bool) -> None:
    betas = {"olmo__rope__scaling__yarn_beta_fast": 32.0, "olmo__rope__scaling__finetuned": True}
    carried = said(**YARN, **({} if explicit else betas))
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    given = {
        **CONFIG,
        "rope_scaling": scaling | ({"beta_fast": 32, "beta_slow": 1} if explicit else {}),
    }
    check_same(given, "config.json", carried, "m.gguf")
    with pytest.raises(OlmoError, match="rope_scaling is "):
        check_same({**CONFIG, "rope_scaling": {**scaling, "beta_fast": 8.0}}, "c", carried, "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general__architecture": "llama"}, "general.architecture is 'llama'"),
        ({"general__architecture": ...}, "general.architecture is None"),
        ({"olmo__embedding_length": ...}, "olmo.embedding_length is missing"),
        ({"olmo__block_count": 0}, "num_hidden_layers must be a positive integer"),
        ({"olmo__block_count": [2, 2]}, "num_hidden_layers must be a positive integer"),
        ({"olmo__expert_count": 8}, "unknown metadata key olmo.expert_count"),
        ({"olmo__rope__scaling__type": "su"}, "unknown olmo.rope.scaling.type 'su'"),
        ({"olmo__rope__scaling__type": ["su"]}, "unknown olmo.rope.scaling.type ['su']"),
        ({"olmo__rope__scaling__type": "linear"}, "olmo.rope.scaling.factor is missing"),
        (
            {
                "olmo__rope__scaling__type": "linear",
                "olmo__rope__scaling__factor": 2.0,
                "olmo__rope__scaling__attn_factor": 2.0,
            },
            "olmo.rope.scaling.attn_factor is 2.0, but only 1.0 is computed",
        ),
        (
            {**YARN, "olmo__rope__scaling__yarn_ext_factor": 0.5},
            "olmo.rope.scaling.yarn_ext_factor is 0.5, but only 1.0 is computed",
        ),
        (
            {**YARN, "olmo__rope__scaling__yarn_log_multiplier": 0.1},
            "unknown metadata key olmo.rope.scaling.yarn_log_multiplier",
        ),
        ({"olmo__attention__layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06, but"),
        (
            {"olmo__rope__dimension_count": 4},
            "olmo.rope.dimension_count is 4, but OLMo's is 8",
        ),
        ({"olmo__vocab_size": 41}, "olmo.vocab_size is 41, but OLMo's is 40"),
    ],
)
def test_metadata_that_say_something_else(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OlmoError) as caught:
        said(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("m.gguf")


def test_a_file_without_embedding() -> None:
    with pytest.raises(OlmoError, match=r"has no tensor 'token_embd\.weight'"):
        said(tensors=(HEAD,))


def test_reals_are_compared_as_they_are_stored() -> None:
    given = {**CONFIG, "rope_theta": 10000.1, "clip_qkv": 0.1}
    carried = said(olmo__rope__freq_base=10000.099609375)
    carried["clip_qkv"] = 0.10000000149011612
    check_same(given, "config.json", carried, "m.gguf")
    check_same(
        {**CONFIG, "hidden_act": "swish", "rope_theta": 1e300},
        "c",
        {**CONFIG, "rope_theta": 1e300},
        "m",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_theta", 500000.0),
        ("clip_qkv", 8.0),
        ("max_position_embeddings", 128),
        ("tie_word_embeddings", True),
        ("hidden_act", "gelu"),
        ("num_key_value_heads", 4),
    ],
)
def test_a_config_that_says_something_else(field: str, value: Any) -> None:
    with pytest.raises(OlmoError) as caught:
        check_same({**CONFIG, field: value}, "config.json", said(), "m.gguf")
    assert str(caught.value).startswith("config.json: ")
    assert str(caught.value).endswith(" in m.gguf")
