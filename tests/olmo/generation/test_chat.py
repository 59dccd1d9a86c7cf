"""Conversations with a model of random weights: what is said is noise, how it is said is not."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import olmo
from olmo.errors import OlmoError
from olmo.generation.chat import Chat
from tests.olmo.conftest import Library
from tests.olmo.libraries import GOLDEN

TEMPLATE = {
    "name": "test",
    "roles": {"user": "<u>", "assistant": "<a>"},
    "seps": ["\n"],
    "role_content_sep": ":",
    "role_empty_sep": ":",
    "system_prefix_token_ids": [7],
    "stop_token_ids": [9],
    "stop_str": ["END", "stop here"],
}
CONFIG = {"conv_template": TEMPLATE, "eos_token_id": 0, "temperature": 1.0, "top_p": 1.0}


@pytest.fixture(scope="module")
def directory(built: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as gen_config and convert_weight leave it."""
    made = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(built("pub-a", "q0f16").model_dir, made)
    shutil.copy(GOLDEN / "pub-a" / "tokenizer.json", made)
    (made / "mlc-chat-config.json").write_text(json.dumps(CONFIG))
    return made


@pytest.fixture
def chat(directory: Path, built: Library) -> Chat:
    return Chat(directory, built("pub-a", "q0f16").library)


class Scripted:
    """An engine that says given tokens, and notes what it was told."""

    context_window_size = 512

    def __init__(self, chat: Chat, *replies: Sequence[int]) -> None:
        self._tokens = iter([token for reply in replies for token in (*reply, 9)])
        self.read: list[int] = []
        chat._engine = self  # type: ignore[assignment]

    def length(self, _sequence: int) -> int:
        return len(self.read)

    def reset(self) -> None:
        self.read.clear()

    def prefill(self, _sequence: int, tokens: Sequence[int]) -> np.ndarray:
        self.read += tokens
        return self._say()

    def decode(self, _sequence: int, token: int) -> np.ndarray:
        self.read.append(token)
        return self._say()

    def _say(self) -> np.ndarray:
        logits = np.zeros(320, np.float32)
        logits[next(self._tokens)] = 50
        return logits


def tokens(chat: Chat, text: str) -> list[int]:
    return list(chat._tokenizer.encode(text, add_special_tokens=False).ids)


def pieces(chat: Chat, text: str, prompt: str = "?", **options: Any) -> list[str]:
    """Return what comes out when the model says `text`, token by token."""
    Scripted(chat, tokens(chat, text))
    return list(chat.generate(prompt, **options))


def test_chat_is_in_the_package() -> None:
    assert olmo.Chat is Chat


def test_a_reply_comes_in_pieces(chat: Chat) -> None:
    found = pieces(chat, "The sky is blue.")
    assert "".join(found) == "The sky is blue."
    assert len(found) > 1


def test_pieces_are_whole_characters(chat: Chat) -> None:
    text = "Grüße, 世界 👩\N{ZERO WIDTH JOINER}🚀 ∑!"
    assert len(tokens(chat, text)) > len(text)  # characters are several tokens
    found = pieces(chat, text)
    assert "".join(found) == text
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in found)


def test_an_unfinished_character_is_left_out(chat: Chat) -> None:
    Scripted(chat, tokens(chat, "ok 世")[:-1])
    assert "".join(chat.generate("?")) == "ok "


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("one END two", "one "),
        ("one EN two", "one EN two"),
        ("please stop here now", "please "),
        ("E", "E"),
        ("EEND", "E"),
        ("stop her", "stop her"),
    ],
)
def test_stop_strings(chat: Chat, said: str, shown: str) -> None:
    assert "".join(pieces(chat, said)) == shown


@pytest.mark.parametrize("stop", [9, 0], ids=["template", "eos"])
def test_stop_tokens(chat: Chat, stop: int) -> None:
    Scripted(chat, [*tokens(chat, "yes"), stop, *tokens(chat, "no")])
    assert "".join(chat.generate("?")) == "yes"


def test_the_conversation_is_the_prompt(chat: Chat) -> None:
    engine = Scripted(chat, tokens(chat, "hello"), tokens(chat, "good"))
    list(chat.generate("hi"))
    assert engine.read[0] == 7
    assert chat._tokenizer.decode(engine.read[1:]) == "<u>:hi\n<a>:hello"
    list(chat.generate("how?"))
    assert chat._tokenizer.decode(engine.read[1:]) == "<u>:hi\n<a>:hello\n<u>:how?\n<a>:good"
    chat.reset()
    engine = Scripted(chat, [])
    list(chat.generate("again"))
    assert chat._tokenizer.decode(engine.read[1:]) == "<u>:again\n<a>:"


def test_a_reply_left_early_is_kept_as_far_as_it_came(chat: Chat) -> None:
    engine = Scripted(chat, tokens(chat, "one two three"), tokens(chat, "x"))
    reply: Iterator[str] = chat.generate("count")
    first = next(reply)
    reply.close()  # type: ignore[attr-defined]
    list(chat.generate("go on"))
    assert f"<a>:{first}\n<u>:go on\n" in chat._tokenizer.decode(engine.read[1:])


def test_the_library_itself(chat: Chat) -> None:
    options = {"temperature": 0.0, "max_tokens": 12}
    first = "".join(chat.generate("Hello", **options))
    second = "".join(chat.generate("And you?", **options))
    chat.reset()
    assert "".join(chat.generate("Hello", **options)) == first
    assert "".join(chat.generate("And you?", **options)) == second


def test_the_cache_gives_what_reading_anew_gives(chat: Chat) -> None:
    options = {"temperature": 0.0, "max_tokens": 12}
    list(chat.generate("Hello", **options))
    kept = "".join(chat.generate("And you?", **options))
    chat._messages = chat._messages[:2]
    chat._forget()
    assert "".join(chat.generate("And you?", **options)) == kept


def test_an_interrupt_between_engine_and_notes_is_survived(chat: Chat) -> None:
    options = {"temperature": 0.0, "max_tokens": 12}
    list(chat.generate("Hello", **options))
    chat._seen.pop()
    found = "".join(chat.generate("And you?", **options))
    chat.reset()
    list(chat.generate("Hello", **options))
    assert "".join(chat.generate("And you?", **options)) == found


def test_seeds(chat: Chat) -> None:
    def said(seed: int) -> str:
        chat.reset()
        return "".join(chat.generate("Hello", seed=seed, temperature=2.0, max_tokens=20))

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_a_seed_that_is_none(chat: Chat) -> None:
    with pytest.raises(OlmoError, match="seed must not be negative, not -1"):
        chat.generate("Hello", seed=-1)


def test_a_prompt_with_bytes_that_are_no_text(chat: Chat) -> None:
    chat.reset()
    assert chat._prompt("a\udcff") == chat._prompt("a?")


def test_max_tokens(chat: Chat) -> None:
    assert "".join(pieces(chat, "abcdef", max_tokens=3)) == chat._tokenizer.decode(
        tokens(chat, "abcdef")[:3]
    )
    with pytest.raises(OlmoError, match="max_tokens must be positive"):
        chat.generate("?", max_tokens=0)


def test_the_reply_ends_where_the_window_does(chat: Chat) -> None:
    engine = Scripted(chat, tokens(chat, "a" * 600))
    reply = "".join(chat.generate("?"))
    assert 0 < len(reply) < 600
    assert len(engine.read) == engine.context_window_size - 1
    with pytest.raises(OlmoError, match="the context window 512") as caught:
        chat.generate("more")
    assert caught.value.hint is not None


def test_a_prompt_longer_than_the_window(chat: Chat) -> None:
    with pytest.raises(OlmoError, match="tokens, the context window 512"):
        chat.generate("word " * 600)


def test_unknown_options(chat: Chat) -> None:
    with pytest.raises(OlmoError, match="unknown sampling option 'temprature'"):
        chat.generate("?", temprature=1.0)
    with pytest.raises(OlmoError, match="top_p must lie between 0 and 1"):
        chat.generate("?", top_p=7)


def test_directories_that_are_no_models(built: Library, tmp_path: Path) -> None:
    library = built("pub-a", "q0f16").library
    with pytest.raises(OlmoError, match=r"mlc-chat-config.json: no such file"):
        Chat(tmp_path, library)
    (tmp_path / "mlc-chat-config.json").write_text("{}")
    with pytest.raises(OlmoError, match="'conv_template' is missing"):
        Chat(tmp_path, library)
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(OlmoError, match=r"tokenizer.json: cannot be read"):
        Chat(tmp_path, library)
    for changed, message in (
        ({"conv_template": 5}, "conv_template must be a name or a table, not 5"),
        ({"eos_token_id": [[1]]}, r"json: eos_token_id must be a token id or a list of them"),
    ):
        (tmp_path / "mlc-chat-config.json").write_text(json.dumps({**CONFIG, **changed}))
        with pytest.raises(OlmoError, match=message):
            Chat(tmp_path, library)
