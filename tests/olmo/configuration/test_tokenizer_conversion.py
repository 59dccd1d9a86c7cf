import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from olmo.checkpoints.gguf_config import tokenizer_metadata
from olmo.configuration.sentencepiece_model import CONTROL, UNKNOWN, UNUSED, parse_model
from olmo.configuration.tokenizer_conversion import (
    encode,
    from_gguf,
    from_sentencepiece,
    from_tiktoken,
)
from olmo.errors import OlmoError
from tests.olmo.sentencepiece_files import model, piece

GOLDEN = Path(__file__).parents[2] / "golden"
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
    with pytest.raises(OlmoError, match="holds the piece 'a' twice"):
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


def of_gguf(**changes: Any) -> dict[str, Any]:
    metadata = tokenizer_metadata(GOLDEN / "pub-a-gguf" / "pub-a-f16.gguf") | changes
    return from_gguf({k: v for k, v in metadata.items() if v is not ...}, "m.gguf")[0]


SAMPLES = (
    "Hello, world! it's 12 o'clock.",
    "  two  spaces\n\n\tand a tab  ",
    "Grüße, 東京 🙂",
    "ends<|endoftext|>begins <|padding|>",
    "",
)


@pytest.mark.parametrize("file", ["pub-a-f32.gguf", "pub-a-f16.gguf", "pub-a-q8_0.gguf"])
def test_the_tokenizer_in_llama_cpps_own_files(file: str) -> None:
    made, warnings = from_gguf(tokenizer_metadata(GOLDEN / "pub-a-gguf" / file), file)
    assert not warnings
    found = Tokenizer.from_buffer(encode(made))
    expected = Tokenizer.from_file(str(GOLDEN / "pub-a" / "tokenizer.json"))
    assert found.get_vocab() == expected.get_vocab()
    for sample in SAMPLES:
        tokens = list(expected.encode(sample).ids)
        assert list(found.encode(sample).ids) == tokens
        assert found.decode(tokens, skip_special_tokens=False) == sample
    theirs = read("pub-a/tokenizer.json")
    assert made["added_tokens"] == theirs["added_tokens"]
    assert [" ".join(pair) for pair in made["model"]["merges"]] == [
        merge if isinstance(merge, str) else " ".join(merge) for merge in theirs["model"]["merges"]
    ]


def spm(**changes: Any) -> dict[str, Any]:
    """Metadata as llama.cpp writes them for the golden sentencepiece model."""
    path = GOLDEN / "sentencepiece" / "tokenizer.model"
    pieces = parse_model(path.read_bytes(), path.name).pieces
    return {
        "model": "llama",
        "pre": "default",
        "tokens": [p.text for p in pieces],
        "token_type": [p.type for p in pieces],
        "scores": [-float(number) for number in range(len(pieces))],
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | changes


def test_a_gguf_file_with_a_sentencepiece_model() -> None:
    path = GOLDEN / "sentencepiece" / "tokenizer.model"
    expected = from_sentencepiece(path, read("sentencepiece/tokenizer_config.json"))
    assert from_gguf(spm(), "m.gguf") == (expected, ())


def test_scores_decide_what_is_merged_first() -> None:
    texts = ["<unk>", "a", "b", "c", "bc", "ab"]
    types = [UNKNOWN, 1, 1, 1, 1, 1]
    base = spm(tokens=texts, token_type=types, add_bos_token=False, add_space_prefix=False)
    for scores, tokens in (
        ([0, -5, -6, -7, -1, -2], ["a", "bc"]),
        ([0, -5, -6, -7, -2, -1], ["ab", "c"]),
    ):
        made, _ = from_gguf({**base, "scores": [float(s) for s in scores]}, "m")
        assert [texts[number] for number in ids(made, "abc")] == tokens


@pytest.mark.parametrize("score", ["0", float("nan")])
def test_scores_that_are_no_numbers(score: object) -> None:
    scores = [score, *spm()["scores"][1:]]
    with pytest.raises(OlmoError, match=r"^m\.gguf: tokenizer\.ggml\.scores are not numbers"):
        from_gguf(spm(scores=scores), "m.gguf")


def test_a_gguf_files_tokens_of_beginning_and_end() -> None:
    assert of_gguf()["post_processor"] is None
    made = of_gguf(add_bos_token=True, bos_token_id=1, add_eos_token=True)
    encoded = Tokenizer.from_buffer(encode(made)).encode("he").ids
    assert (encoded[0], encoded[-1]) == (1, 0)
    made, _ = from_gguf(spm(add_bos_token=False), "m")
    assert made["post_processor"] is None


def test_what_only_fills_the_vocabulary_up_is_left_out() -> None:
    metadata = tokenizer_metadata(GOLDEN / "pub-a-gguf" / "pub-a-f16.gguf")
    assert len(metadata["tokens"]) == 320
    assert metadata["token_type"][300:] == [UNUSED] * 20
    assert len(of_gguf()["model"]["vocab"]) == 300


@pytest.mark.parametrize("pre", [..., "default"])
def test_a_gguf_file_that_does_not_say_how_words_are_split(pre: Any) -> None:
    metadata = tokenizer_metadata(GOLDEN / "pub-a-gguf" / "pub-a-f16.gguf") | {"pre": pre}
    kept = {key: value for key, value in metadata.items() if value is not ...}
    made, (warning,) = from_gguf(kept, "m.gguf")
    assert made == of_gguf()
    assert warning == "m.gguf does not say how text is split into words: GPT-2's way is used"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model 'bert' is not read"),
        ({"model": ...}, "tokenizer.ggml.model None is not read"),
        ({"pre": "llama-bpe"}, "tokenizer.ggml.pre 'llama-bpe' is not read"),
        ({"tokens": ...}, "tokens and token_type do not fit"),
        ({"token_type": [1]}, "tokens and token_type do not fit"),
        ({"merges": ["h e", "he"]}, "tokenizer.ggml.merges has 'he'"),
        ({"merges": ["zq qz"]}, "tokenizer.ggml.merges has 'zq qz'"),
        ({"merges": 5}, "tokenizer.ggml.merges is no list"),
        ({"pre": ["gpt-2"]}, r"tokenizer.ggml.pre \['gpt-2'\] is not read"),
        ({"add_bos_token": True}, "tokenizer.ggml.bos_token_id is None"),
        ({"add_eos_token": True, "eos_token_id": 320}, "tokenizer.ggml.eos_token_id is 320"),
        ({"model": "llama"}, "tokens and scores do not fit"),
    ],
)
def test_a_tokenizer_in_a_gguf_file_that_is_not_read(changes: dict[str, Any], message: str) -> None:
    if changes.get("model") == "llama":
        changes = {**changes, "bos_token_id": 0}
    with pytest.raises(OlmoError, match=message) as caught:
        of_gguf(**changes)
    assert str(caught.value).startswith("m.gguf: ")


@pytest.mark.parametrize("key", ["remove_extra_whitespaces", "precompiled_charsmap"])
def test_a_sentencepiece_model_in_a_gguf_file_that_alters_text(key: str) -> None:
    with pytest.raises(OlmoError, match=f"tokenizer.ggml.{key} is not read"):
        from_gguf(spm(**{key: [1]}), "m.gguf")
