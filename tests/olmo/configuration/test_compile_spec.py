import json
from pathlib import Path
from typing import Any

import pytest

from olmo.configuration.compile_spec import CompileSpec
from olmo.errors import OlmoError
from olmo.quantizations import quantization

GOLDEN = Path(__file__).parents[2] / "golden" / "chat-config"
Q4 = quantization("q4f16_1")
CHAT_CONFIG = json.loads((GOLDEN / "pub-b.q4f16_1.olmo.256.json").read_bytes())


def changed(**fields: Any) -> dict[str, Any]:
    return {**CHAT_CONFIG, **fields}


@pytest.mark.parametrize("file", sorted(GOLDEN.iterdir()), ids=lambda file: file.stem)
def test_every_golden_chat_config_is_projected(file: Path) -> None:
    chat_config = json.loads(file.read_bytes())
    chosen = quantization(chat_config["quantization"])
    spec = CompileSpec.from_chat_config(chat_config, chosen)
    assert spec.config.to_json() == chat_config["model_config"]
    assert spec.quantization == chosen
    assert spec.active_vocab_size == chat_config["active_vocab_size"]
    assert CompileSpec.from_json(spec.to_json()) == spec


def test_what_a_library_does_not_depend_on_is_left_out() -> None:
    spec = CompileSpec.from_chat_config(CHAT_CONFIG, Q4)
    other = changed(temperature=0.1, tokenizer_files=[], eos_token_id=9, version="9")
    other["conv_template"] = {**CHAT_CONFIG["conv_template"], "system_message": "Hi."}
    assert CompileSpec.from_chat_config(other, Q4).to_json() == spec.to_json()


def test_what_it_depends_on_is_in() -> None:
    spec = CompileSpec.from_chat_config(CHAT_CONFIG, Q4)
    for fields in (
        {"active_vocab_size": 299},
        {"sliding_window_size": 64},
        {"attention_sink_size": 4},
    ):
        assert CompileSpec.from_chat_config(changed(**fields), Q4).to_json() != spec.to_json()
    other = quantization("q4f32_1")
    assert CompileSpec.from_chat_config(CHAT_CONFIG, other).to_json() != spec.to_json()


def test_the_bytes_are_canonical() -> None:
    spec = CompileSpec.from_chat_config(CHAT_CONFIG, Q4)
    text = spec.to_json().decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    reordered = dict(reversed(CHAT_CONFIG.items()))
    assert CompileSpec.from_chat_config(reordered, Q4).to_json() == spec.to_json()


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({"model_type": "olmo2"}, "unknown model type 'olmo2'", "'olmo'"),
        ({"model_task": "embedding"}, "model_task must be 'chat', not 'embedding'", None),
        ({"active_vocab_size": 321}, "active_vocab_size must lie in 1..320", None),
        ({"active_vocab_size": True}, "active_vocab_size must lie in 1..320", None),
        ({"sliding_window_size": 0}, "sliding_window_size must be a positive integer", None),
        ({"context_window_size": 512}, "context_window_size is 512, but", "gen_config"),
        ({"model_config": {}}, "model_config: the field 'vocab_size' is missing", None),
    ],
)
def test_bad_values(fields: dict[str, Any], message: str, hint: str | None) -> None:
    with pytest.raises(OlmoError) as caught:
        CompileSpec.from_chat_config(changed(**fields), Q4, "some.json")
    assert str(caught.value).startswith("some.json: ")
    assert message in str(caught.value)
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["model_config", "active_vocab_size"])
def test_missing_fields(name: str) -> None:
    without = {key: value for key, value in CHAT_CONFIG.items() if key != name}
    with pytest.raises(OlmoError, match=f"some.json: the field '{name}' is missing"):
        CompileSpec.from_chat_config(without, Q4, "some.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"sliding_windw_size": 1}, "unknown field of s.json"),
        (lambda values: {k: values[k] for k in list(values)[1:]}, "is missing"),
        (lambda _values: [], "s.json: expected a table"),
    ],
)
def test_bad_bytes(change: Any, message: str) -> None:
    values = json.loads(CompileSpec.from_chat_config(CHAT_CONFIG, Q4).to_json())
    with pytest.raises(OlmoError, match=message):
        CompileSpec.from_json(json.dumps(change(values)).encode(), "s.json")
    with pytest.raises(OlmoError, match=r"s.json: not JSON"):
        CompileSpec.from_json(b"{", "s.json")
