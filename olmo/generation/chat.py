"""A conversation with a built model: its template, its tokenizer, its library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from olmo.configuration.conversation import Message, render, template
from olmo.errors import OlmoError
from olmo.generation.runtime import Engine
from olmo.generation.sampling import Sampling, next_token
from olmo.json_file import read_json

CHAT_CONFIG = "mlc-chat-config.json"
_SAMPLING = (
    "temperature",
    "top_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer gives for a part of a character
_SEQUENCE = 0


class Chat:
    """A model directory and a library, talking: `generate` a reply, `reset` to begin anew.

    The conversation is kept between calls. Sampling defaults are those of the chat config.

    Raises:
        OlmoError: the directory or the library cannot be loaded, or they do not belong together.
    """

    def __init__(self, model_dir: Path | str, library: Path | str) -> None:
        directory = Path(model_dir)
        self._config = _chat_config(directory)
        self._template = template(self._config["conv_template"])
        ends = _ids(self._config.get("eos_token_id"), directory / CHAT_CONFIG)
        self._stop_tokens = {*self._template.stop_token_ids, *ends}
        self._tokenizer = _tokenizer(directory)
        self._engine = Engine(directory, Path(library))
        self._messages: list[Message] = []
        self._seen: list[int] = []  # tokens that are in the KV cache

    def reset(self) -> None:
        """Forget the conversation."""
        self._messages.clear()
        self._forget()

    def generate(
        self, prompt: str, *, seed: int = 0, max_tokens: int | None = None, **sampling: float
    ) -> Iterator[str]:
        """Answer `prompt`, piece by piece; the pieces are whole characters and together the reply.

        `sampling` are fields of `olmo.generation.sampling.Sampling`; temperature 0 takes the likeliest token.
        Equal seeds give equal replies. The reply ends at a stop token or string, after
        `max_tokens`, or where the context window is full. An iterator left early ends the reply
        there.

        Raises:
            OlmoError: the conversation with this prompt fills the context window, or a sampling
                value is out of range.
        """
        chosen = self._sampling(sampling)
        if seed < 0:
            raise OlmoError(f"seed must not be negative, not {seed}")
        if max_tokens is not None and max_tokens < 1:
            raise OlmoError(f"max_tokens must be positive, not {max_tokens}")
        tokens = self._prompt(prompt)
        return self._reply(prompt, tokens, chosen, np.random.default_rng(seed), max_tokens)

    def _reply(
        self,
        prompt: str,
        tokens: list[int],
        sampling: Sampling,
        random: np.random.Generator,
        max_tokens: int | None,
    ) -> Iterator[str]:
        said = ""
        try:
            for piece in self._pieces(tokens, sampling, random, max_tokens):
                said += piece
                yield piece
        finally:
            self._messages += [("user", prompt), ("assistant", said)]

    def _pieces(
        self,
        tokens: list[int],
        sampling: Sampling,
        random: np.random.Generator,
        max_tokens: int | None,
    ) -> Iterator[str]:
        room = self._engine.context_window_size - len(tokens)
        limit = room if max_tokens is None else min(room, max_tokens)
        stop = _Stop(self._template.stop_str)
        reply: list[int] = []
        shown = ""
        logits = self._read(tokens)
        while len(reply) < limit:
            token = next_token(logits, reply, sampling, random)
            if token in self._stop_tokens:
                break
            reply.append(token)
            text = self._tokenizer.decode(reply, skip_special_tokens=True)
            if not text.endswith(_UNFINISHED):
                piece, ended = stop.feed(text[len(shown) :])
                shown = text
                if piece:
                    yield piece
                if ended:
                    return
            if len(reply) < limit:
                logits = self._engine.decode(_SEQUENCE, token)
                self._seen.append(token)
        rest = self._tokenizer.decode(reply, skip_special_tokens=True)[len(shown) :]
        piece, _ = stop.feed(rest.rstrip(_UNFINISHED))
        if piece + stop.held:
            yield piece + stop.held

    def _prompt(self, prompt: str) -> list[int]:
        said: list[Message] = [*self._messages, ("user", prompt), ("assistant", None)]
        tokens: list[int] = []
        for piece in render(self._template, said):
            if isinstance(piece, int):
                tokens.append(piece)
            else:
                text = piece.encode(errors="replace").decode()  # bytes that were no UTF-8: ?
                tokens += self._tokenizer.encode(text, add_special_tokens=False).ids
        window = self._engine.context_window_size
        if len(tokens) >= window:
            raise OlmoError(
                f"the conversation has {len(tokens)} tokens, the context window {window}",
                "start anew, or ask something shorter",
            )
        return tokens

    def _read(self, tokens: list[int]) -> Any:
        """Bring the KV cache to `tokens`, keeping what it has of them; return the last logits."""
        common = 0
        while (
            common < min(len(self._seen), len(tokens) - 1) and self._seen[common] == tokens[common]
        ):
            common += 1
        # The cache went another way, or an interrupt left it in between: read all again.
        if common < len(self._seen) or self._engine.length(_SEQUENCE) != len(self._seen):
            self._forget()
            common = 0
        logits = self._engine.prefill(_SEQUENCE, tokens[common:])
        self._seen = list(tokens)
        return logits

    def _forget(self) -> None:
        self._engine.reset()
        self._seen = []

    def _sampling(self, given: dict[str, float]) -> Sampling:
        for name in given:
            if name not in _SAMPLING:
                raise OlmoError(
                    f"unknown sampling option {name!r}", f"known: {', '.join(_SAMPLING)}"
                )
        defaults = {name: self._config[name] for name in _SAMPLING if name in self._config}
        return Sampling(**{**defaults, **given})


class _Stop:
    """Watches a text that comes in pieces for strings that end it."""

    def __init__(self, strings: tuple[str, ...]) -> None:
        self._strings = [string for string in strings if string]
        self.held = ""  # not shown yet: it may be the beginning of a stop string

    def feed(self, piece: str) -> tuple[str, bool]:
        """Return what of the text may be shown now, and whether it has ended."""
        text = self.held + piece
        ends = [text.find(string) for string in self._strings if string in text]
        if ends:
            self.held = ""
            return text[: min(ends)], True
        keep = max(
            (
                length
                for string in self._strings
                for length in range(1, len(string))
                if text.endswith(string[:length])
            ),
            default=0,
        )
        shown = text[: len(text) - keep]
        self.held = text[len(text) - keep :]
        return shown, False


def _chat_config(directory: Path) -> dict[str, Any]:
    path = directory / CHAT_CONFIG
    config = read_json(path)
    if not isinstance(config, dict) or "conv_template" not in config:
        raise OlmoError(
            f"{path}: the field 'conv_template' is missing", "write the file again with gen_config"
        )
    return config


def _tokenizer(directory: Path) -> Tokenizer:
    path = directory / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers package raises nothing narrower
        raise OlmoError(f"{path}: cannot be read: {error}") from error


def _ids(value: object, path: Path) -> list[int]:
    """Return the token ids of a field that holds none, one or a list of them."""
    ids: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int for token in ids):
        raise OlmoError(f"{path}: eos_token_id must be a token id or a list of them, not {value!r}")
    return ids
