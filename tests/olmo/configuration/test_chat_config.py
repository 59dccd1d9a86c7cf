import json
from pathlib import Path
from typing import Any

import pytest

from olmo.configuration.chat_config import Generated, encode, generate, write
from olmo.configuration.compile_spec import CompileSpec
from olmo.errors import OlmoError
from olmo.quantizations import QUANTIZATIONS

GOLDEN = Path(__file__).parents[2] / "golden"
EXAMPLES = sorted((GOLDEN / "chat-config").iterdir())
CONFIG = json.loads((GOLDEN / "pub-a" / "config.json").read_text())


def make(
    config: dict[str, Any] | None = None,
    generation: Any = None,
    template: Any = "LM",
    tokenizer: Path = GOLDEN / "pub-a",
    **options: Any,
) -> Generated:
    changed = {**CONFIG, **(config or {})}
    return generate(changed, generation, tokenizer, "q4f16_1", template, **options)


def failure(*args: Any, **options: Any) -> str:
    with pytest.raises(OlmoError) as caught:
        make(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_golden(example: Path) -> None:
    model, quantization, template, window = example.name.removesuffix(".json").split(".")
    generated = generate(
        json.loads((GOLDEN / model / "config.json").read_text()),
        json.loads((GOLDEN / model / "generation_config.json").read_text()),
        GOLDEN / model,
        quantization,
        template,
        context_window_size=None if window == "default" else int(window),
    )
    assert encode(generated.chat_config) == example.read_bytes()
    spec = CompileSpec.from_chat_config(generated.chat_config, QUANTIZATIONS[quantization])
    assert spec.active_vocab_size == 300


def test_token_ids_prefer_generation_config() -> None:
    config = {"pad_token_id": 3, "bos_token_id": None, "eos_token_id": 4}
    chat = make(config, {"eos_token_id": [5, 6], "pad_token_id": None}).chat_config
    assert [chat[f"{name}_token_id"] for name in ("pad", "bos", "eos")] == [3, 1, [5, 6]]
    chat = make({"pad_token_id": None, "eos_token_id": None}, {}).chat_config
    assert [chat[f"{name}_token_id"] for name in ("pad", "bos", "eos")] == [0, 1, 2]


def test_sampling_comes_from_generation_config() -> None:
    chat = make({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0, "top_k": 5}).chat_config
    assert (chat["temperature"], chat["top_p"]) == (0.0, 0.9)
    assert isinstance(chat["temperature"], float)
    assert "top_k" not in chat


def test_windows() -> None:
    small = make(context_window_size=100, prefill_chunk_size=40).chat_config
    assert (small["context_window_size"], small["prefill_chunk_size"]) == (100, 40)
    assert small["model_config"]["context_window_size"] == 100
    assert small["model_config"]["prefill_chunk_size"] == 40


def test_a_chunk_larger_than_the_window_is_cut_and_told() -> None:
    made = make(context_window_size=100, prefill_chunk_size=300)
    assert made.chat_config["prefill_chunk_size"] == 100
    assert made.warnings == (
        "prefill_chunk_size 300 is larger than the context window: 100 is used",
    )


def test_a_window_beyond_training_is_told() -> None:
    (warning,) = make(context_window_size=513).warnings
    assert warning.startswith("context_window_size 513 is beyond the 512 positions")
    scaling = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert make(scaling, context_window_size=513).warnings == ()


def test_tokens_that_the_model_lacks_are_told() -> None:
    (first, second) = make(template="olmo").warnings
    assert "system_prefix_token_ids holds 50279, but the model has 320 tokens" in first
    assert "stop_token_ids holds 50279" in second


def test_other_options() -> None:
    chat = make(
        {"intermediate_size": 160},
        sliding_window_size=64,
        attention_sink_size=4,
        tensor_parallel_shards=2,
        pipeline_parallel_stages=2,
        max_batch_size=7,
    ).chat_config
    assert (chat["sliding_window_size"], chat["attention_sink_size"]) == (64, 4)
    assert (chat["tensor_parallel_shards"], chat["pipeline_parallel_stages"]) == (2, 2)
    assert chat["model_config"]["max_batch_size"] == 7


def test_own_template() -> None:
    own = {"name": "mine", "roles": {"user": "Q", "assistant": "A"}, "seps": ["\n"]}
    chat = make(template=own).chat_config
    assert chat["conv_template"]["roles"] == own["roles"]
    assert chat["conv_template"]["system_prefix_token_ids"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_window_size": 0}, "context_window_size must be a positive integer, not 0"),
        ({"prefill_chunk_size": -1}, "prefill_chunk_size must be a positive integer, not -1"),
        ({"sliding_window_size": 0}, "sliding_window_size must be a positive integer, or -1"),
        ({"attention_sink_size": 4}, "attention_sink_size needs a sliding_window_size"),
        ({"tensor_parallel_shards": 3}, "tensor_parallel_shards 3 does not divide"),
        ({"template": "nope"}, "unknown conversation template 'nope'"),
        ({"generation": []}, "generation_config.json: expected a table"),
        (
            {"generation": {"temperature": -1}},
            "generation_config.json: temperature is out of range",
        ),
        ({"generation": {"top_p": 0}}, "top_p is out of range: 0"),
        ({"generation": {"top_p": "1"}}, "top_p is out of range: '1'"),
        ({"generation": {"eos_token_id": 320}}, "eos_token_id must be a token id below vocab_size"),
        ({"generation": {"eos_token_id": []}}, "eos_token_id must be a token id"),
        ({"config": {"bos_token_id": [1]}}, "config.json: bos_token_id must be a token id"),
        ({"config": {"vocab_size": 299}}, "the tokenizer has 300 tokens, but vocab_size"),
        ({"config": {"model_type": "llama"}}, "config.json: model_type is 'llama'"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    assert message in failure(**options)


def test_write_copies_the_tokenizer(tmp_path: Path) -> None:
    made = make()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "params_shard_0.bin").touch()
    write(made, GOLDEN / "pub-a", tmp_path / "out", {"compile-spec.json": b"{}"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compile-spec.json",
        "mlc-chat-config.json",
        "params_shard_0.bin",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (GOLDEN / "pub-a" / name).read_bytes()
    assert (tmp_path / "out" / "mlc-chat-config.json").read_bytes() == encode(made.chat_config)


def test_a_tokenizer_that_is_made_is_written(tmp_path: Path) -> None:
    config_json = json.loads((GOLDEN / "pub-a" / "config.json").read_text()) | {"vocab_size": 512}
    tokenizer = GOLDEN / "sentencepiece"
    made = generate(config_json, None, tokenizer, "q4f16_1", "LM")
    assert made.chat_config["active_vocab_size"] == 360
    names = ["tokenizer.model", "tokenizer_config.json", "tokenizer.json"]
    assert made.chat_config["tokenizer_files"] == names
    write(made, tokenizer, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, "mlc-chat-config.json"}
    expected = json.loads((tokenizer / "expected.json").read_text())
    assert json.loads((tmp_path / "out" / "tokenizer.json").read_text()) == expected
