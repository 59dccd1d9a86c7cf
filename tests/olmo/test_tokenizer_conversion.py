import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from olmo.errors import OlmoError
from olmo.sentencepiece_model import CONTROL, UNKNOWN
from olmo.tokenizer_conversion import encode, from_sentencepiece, from_tiktoken
from tests.olmo.sentencepiece_files import model, piece

GOLDEN = Path(__file__).parents[1] / "golden"
SPECIAL = [piece("<unk>", UNKNOWN), piece("<s>", CONTROL), piece("</s>", CONTROL)]


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def ids(tokenizer: dict[str, Any], text: str) -> list[int]:
    found = Tokenizer.from_buffer(encode(tokenizer)).encode(text, add_special_tokens=False)
    return list(found.ids)


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "t"
    path.write_bytes(data)
    return path


def test_a_sentencepiece_model_becomes_what_transformers_makes() -> None:
    path = GOLDEN / "sentencepiece" / "tokenizer.model"
    found = from_sentencepiece(path, read("sentencepiece/tokenizer_config.json"))
    assert found == read("sentencepiece/expected.json")


def test_text_becomes_the_tokens_of_sentencepiece() -> None:
    path = GOLDEN / "sentencepiece" / "tokenizer.model"
    found = from_sentencepiece(path, {})
    encoded = read("sentencepiece/encoded.json")
    for sample, expected in zip(encoded["samples"], encoded["ids"], strict=True):
        if not sample.startswith(" "):  # transformers drops one space there, unlike sentencepiece
            assert ids(found, sample) == expected


def test_text_becomes_the_tokens_of_tiktoken() -> None:
    config = read("tiktoken/tokenizer_config.json")
    found = from_tiktoken(GOLDEN / "tiktoken" / "model.tiktoken", config)
    encoded = read("tiktoken/encoded.json")
    for sample, expected in zip(encoded["samples"], encoded["ids"], strict=True):
        assert ids(found, sample) == expected


def test_without_the_space_in_front(tmp_path: Path) -> None:
    path = write(tmp_path, model([*SPECIAL, piece("a"), piece("▁")], prefix=False))
    found = from_sentencepiece(path, {})
    assert found["pre_tokenizer"]["prepend_scheme"] == "never"
    assert [decoder["type"] for decoder in found["decoder"]["decoders"]][-1] == "Fuse"
    assert ids(found, "a") == [3]


@pytest.mark.parametrize(
    ("config", "single"),
    [
        ({}, ["<s>", "A"]),
        ({"add_bos_token": False}, None),
        ({"add_bos_token": False, "add_eos_token": True}, ["A", "</s>"]),
        ({"add_eos_token": True, "eos_token": {"content": "</s>"}}, ["<s>", "A", "</s>"]),
    ],
)
def test_tokens_of_beginning_and_end(
    tmp_path: Path, config: dict[str, Any], single: list[str] | None
) -> None:
    found = from_sentencepiece(write(tmp_path, model(SPECIAL)), config)["post_processor"]
    if single is None:
        assert found is None
    else:
        assert [next(iter(part.values()))["id"] for part in found["single"]] == single


def test_configured_tokens_are_added(tmp_path: Path) -> None:
    extra = {"content": "<|x|>", "lstrip": True, "normalized": False, "special": True}
    config = {"added_tokens_decoder": {"3": extra}}
    found = from_sentencepiece(write(tmp_path, model(SPECIAL)), config)["added_tokens"]
    assert found[3] == {"id": 3, "single_word": False, "rstrip": False, **extra}
    assert [token["id"] for token in found] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (model(SPECIAL, kind=1), "is no byte-pair encoding"),
        (model(SPECIAL, byte_fallback=False), "has no byte fallback"),
        (model(SPECIAL, charsmap=b"x"), "normalizes text"),
        (model(SPECIAL, remove_spaces=True), "removes spaces"),
    ],
)
def test_other_sentencepiece_models_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(OlmoError, match=said) as caught:
        from_sentencepiece(write(tmp_path, data), {})
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("save it with transformers")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bos_token": "<|x|>"}, r"has no bos_token '<\|x\|>'"),
        ({"added_tokens_decoder": {"a": {"content": "x"}}}, "added_tokens_decoder .* is broken"),
        ({"added_tokens_decoder": ["a"]}, "added_tokens_decoder .* is broken"),
    ],
)
def test_a_broken_tokenizer_config(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(OlmoError, match=said):
        from_sentencepiece(write(tmp_path, model(SPECIAL)), config)


def test_a_piece_twice(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="holds a piece twice"):
        from_sentencepiece(write(tmp_path, model([piece("a"), piece("a")])), {})


def ranks(*tokens: bytes) -> bytes:
    lines = (base64.b64encode(t) + f" {n}".encode() for n, t in enumerate(tokens))
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no tokens"),
        (b"YQ==", "line 1 is not a base64 token and its rank"),
        (b"YQ== 0\n! 1", "line 2 is not a base64 token"),
        (b"YQ== x", "line 1 is not a base64 token"),
        (b"YQ== 0\nYQ== 1", "line 2: an empty token, or one that is there already"),
        (b"YQ== 0\nYg== 0", "two of one rank"),
        (ranks(b"a", b"b", b"c", b"abc"), "token 3 is not made of two others"),
    ],
)
def test_a_broken_tiktoken_file(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(OlmoError, match=said):
        from_tiktoken(write(tmp_path, data), {})
