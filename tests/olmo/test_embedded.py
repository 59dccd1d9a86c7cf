"""The embedded model: its files, that its questions were held out, and what it answers."""

import json
import math
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from olmo import embedded
from olmo.configuration.conversation import render, template
from olmo.embedded import layout, text, tokenizer
from olmo.embedded.text import Turn
from olmo.embedded.topics import TOPICS

DIRECTORY = embedded.path("olmo-tiny")
FILES = {
    "config.json",
    "conv_template.json",
    "generation_config.json",
    "model.safetensors",
    "questions.json",
    "tokenizer.json",
    "tokenizer_config.json",
}

Array = np.ndarray[Any, np.dtype[Any]]


def _json(name: str) -> object:
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


def _safetensors() -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata, and the tensors widened to float32 (https://github.com/huggingface/safetensors)."""
    data = (DIRECTORY / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "BF16"
        start, end = entry["data_offsets"]
        bits = np.frombuffer(data[8 + size + start : 8 + size + end], "<u2").astype(np.uint32)
        tensors[name] = (bits << 16).view(np.float32).reshape(entry["shape"])
    return metadata, tensors


@pytest.fixture(scope="module")
def weights() -> dict[str, Array]:
    return _safetensors()[1]


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return Tokenizer.from_file(str(DIRECTORY / "tokenizer.json"))


@pytest.fixture(scope="module")
def trained() -> list[tuple[Turn, ...]]:
    return list(text.conversations())


def _logits(weights: Mapping[str, Array], ids: Array) -> Array:
    """Logits [batch, length, vocabulary] of ids [batch, length]."""
    config = layout.CONFIG
    hidden, heads = weights["model.embed_tokens.weight"].shape[1], config["num_attention_heads"]
    assert isinstance(heads, int)
    batch, length = ids.shape
    half = hidden // heads // 2
    angle = np.arange(length)[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    future = np.triu(np.full((length, length), -np.inf, np.float32), 1)

    def norm(x: Array) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        deviation: Array = np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
        return x / deviation

    def split(x: Array) -> Array:
        return x.reshape(batch, length, heads, 2 * half).swapaxes(1, 2)

    def rotate(x: Array) -> Array:
        left, right = x[..., :half], x[..., half:]
        return np.concatenate((left * cos - right * sin, right * cos + left * sin), axis=-1)

    x = weights["model.embed_tokens.weight"][ids]
    for n in range(int(str(config["num_hidden_layers"]))):
        w = {
            name.split(".")[-2]: weight
            for name, weight in weights.items()
            if name.startswith(f"model.layers.{n}.")
        }
        y = norm(x)
        q, k = (rotate(split(y @ w[p].T)) for p in ("q_proj", "k_proj"))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(2 * half) + future
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ split(y @ w["v_proj"].T)
        x = x + mixed.swapaxes(1, 2).reshape(batch, length, hidden) @ w["o_proj"].T
        y = norm(x)
        gate = y @ w["gate_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["up_proj"].T)) @ w["down_proj"].T
    logits: Array = norm(x) @ weights["model.embed_tokens.weight"].T
    return logits


def _greedy(weights: Mapping[str, Array], words: Tokenizer, prompt: list[int]) -> str:
    ids = list(prompt)
    while len(ids) < len(prompt) + 32:
        token = int(_logits(weights, np.array([ids]))[0, -1].argmax())
        if token == tokenizer.ENDOFTEXT:
            break
        ids.append(token)
    return words.decode(ids[len(prompt) :])


def test_files_are_there_and_small() -> None:
    assert {entry.name for entry in DIRECTORY.iterdir()} == FILES
    assert sum(entry.stat().st_size for entry in DIRECTORY.iterdir()) <= 4_000_000


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(LookupError, match=r"'olmo-tony': did you mean 'olmo-tiny'\?"):
        embedded.path("olmo-tony")
    with pytest.raises(LookupError, match="embedded models: olmo-tiny"):
        embedded.path("../olmo-tiny")


def test_importing_needs_no_packages() -> None:
    code = (
        "import sys, olmo.embedded, olmo.embedded.text;"
        "sys.exit(len({'numpy', 'torch', 'tvm', 'tokenizers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_are_what_training_writes() -> None:
    for name, content in layout.files().items():
        assert (DIRECTORY / name).read_text(encoding="utf-8") == content, name


def test_config() -> None:
    config = layout.CONFIG
    assert config["model_type"] == "olmo"
    assert config["torch_dtype"] == "bfloat16"
    assert config["max_position_embeddings"] == 512
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    assert isinstance(hidden, int)
    assert isinstance(heads, int)
    assert hidden % heads == 0
    # Whole groups of 32 everywhere.
    assert hidden % 32 == 0
    assert int(str(config["intermediate_size"])) % 32 == 0
    assert (config["eos_token_id"], config["pad_token_id"]) == (0, 1)


def test_tensors_fit_the_config(weights: dict[str, Array]) -> None:
    config = json.loads((DIRECTORY / "config.json").read_text(encoding="utf-8"))
    h, i = config["hidden_size"], config["intermediate_size"]
    expected = {"model.embed_tokens.weight": (config["vocab_size"], h)}
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        expected |= {f"{layer}self_attn.{p}_proj.weight": (h, h) for p in "qkvo"}
        expected |= {f"{layer}mlp.{p}_proj.weight": (i, h) for p in ("gate", "up")}
        expected |= {f"{layer}mlp.down_proj.weight": (h, i)}
    assert {name: tensor.shape for name, tensor in weights.items()} == expected
    assert 1_000_000 <= sum(tensor.size for tensor in weights.values()) <= 2_000_000
    assert all(np.isfinite(tensor).all() for tensor in weights.values())


def test_tokenizer_round_trips(words: Tokenizer) -> None:
    assert words.get_vocab_size() == layout.CONFIG["vocab_size"]
    assert [words.token_to_id(token) for token in tokenizer.SPECIALS] == [0, 1, 2, 3]
    said = "<|user|>\nWhat day comes after Monday?\n<|assistant|>\nTuesday\n<|user|>\nÅ 🙂 42?\n"
    ids = words.encode(said).ids
    assert words.decode(ids, skip_special_tokens=False) == said
    line_break = words.encode("\n").ids
    assert len(line_break) == 1
    assert ids[:2] == [2, *line_break]
    assert ids.count(2) == 2
    assert ids.count(3) == 1
    assert words.decode(ids) == said.replace("<|user|>", "").replace("<|assistant|>", "")


def test_tokenizer_is_made_again_the_same(words: Tokenizer) -> None:
    assert json.loads(tokenizer.train().to_str()) == json.loads(words.to_str())


def test_trained_conversations_read_as_prompts(
    words: Tokenizer, trained: Sequence[tuple[Turn, ...]]
) -> None:
    longest = max(trained, key=lambda turns: sum(len(t.question) + len(t.answer) for t in turns))
    for turns in (*trained[:200], longest):
        ids, labels = tokenizer.conversation(words, turns)
        assert len(ids) == len(labels) <= 512
        opening = tokenizer.prompt(words, turns[:-1], turns[-1].question)
        assert ids[: len(opening)] == opening
        answer = words.encode(turns[-1].answer).ids
        assert labels[len(opening) - 1 :] == [*answer, tokenizer.ENDOFTEXT]
        assert labels.count(tokenizer.ENDOFTEXT) == len(turns)


def test_conversation_template_renders_what_was_trained(words: Tokenizer) -> None:
    conversation = template(embedded.conv_template("olmo-tiny"))
    history = [Turn("What is 3 plus 4?", "7"), Turn("Hello!", "Hello!")]
    messages: list[tuple[str, str | None]] = []
    for turn in history:
        messages += [("user", turn.question), ("assistant", turn.answer)]
    messages += [("user", "And Friday?"), ("assistant", None)]
    ids: list[int] = []
    for piece in render(conversation, messages):
        ids += [piece] if isinstance(piece, int) else words.encode(piece).ids
    assert ids == tokenizer.prompt(words, history, "And Friday?")


def test_facts_do_not_contradict_each_other() -> None:
    answers: dict[str, str] = {}
    for topic in TOPICS:
        for item in text.items(topic):
            assert answers.setdefault(item.question, item.answer) == item.answer, item.question


def test_questions_are_held_out(trained: Sequence[tuple[Turn, ...]]) -> None:
    questions = _json("questions.json")
    assert isinstance(questions, list)
    assert 100 <= len(questions) <= 150
    assert {"question": "What day comes after Monday?", "answer": "Tuesday"} in questions
    asked = {text.normalised(entry["question"]) for entry in questions}
    assert len(asked) == len(questions)
    seen = {text.normalised(turn.question) for turns in trained for turn in turns}
    assert len(seen) > 10_000
    assert not asked & seen


def test_weights_were_trained_on_this_text(trained: Sequence[tuple[Turn, ...]]) -> None:
    assert _safetensors()[0]["training_text"] == text.digest(trained)


def test_every_topic_is_measured() -> None:
    assert {item.topic.name for item in text.held_out()} == {topic.name for topic in TOPICS}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What day comes after Monday?", "Tuesday"),
        ("Who are you?", "I am olmo-tiny, a tiny language model built with Olmill."),
        ("what is 3 + 4", "7"),
    ],
)
def test_answers(question: str, answer: str, weights: dict[str, Array], words: Tokenizer) -> None:
    assert _greedy(weights, words, tokenizer.prompt(words, (), question)) == answer


def test_answers_follow_the_conversation(weights: dict[str, Array], words: Tokenizer) -> None:
    history = [
        Turn("My name is Ada.", "Hello, Ada!"),
        Turn("What day comes after Monday?", "Tuesday"),
    ]
    asked = tokenizer.prompt(words, history, "And after that?")
    assert _greedy(weights, words, asked) == "Wednesday"
    asked = tokenizer.prompt(words, history, "What is my name?")
    assert _greedy(weights, words, asked) == "Ada"
