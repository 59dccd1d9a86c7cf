import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo.checkpoints.gguf_config import tokenizer_metadata
from olmo.configuration.tokenizer_info import TokenizerInfo, detect, read_tokenizer
from olmo.errors import OlmoError

GOLDEN = Path(__file__).parents[2] / "golden" / "pub-a"
LEVEL, FALLBACK = {"type": "ByteLevel"}, {"type": "ByteFallback"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
PREPEND = {"type": "Prepend", "prepend": "\u2581"}


def sequence(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ({}, ("byte_fallback", False, False)),
        ({"decoder": None, "normalizer": None}, ("byte_fallback", False, False)),
        ({"decoder": LEVEL}, ("byte_level", False, False)),
        ({"decoder": FALLBACK}, ("byte_fallback", False, False)),
        ({"decoder": {"type": "WordPiece"}}, ("byte_fallback", False, False)),
        ({"decoder": sequence("decoders", FALLBACK, LEVEL)}, ("byte_level", False, False)),
        ({"decoder": STRIP}, ("byte_fallback", False, True)),
        ({"decoder": {**STRIP, "start": 0}}, ("byte_fallback", False, False)),
        ({"decoder": sequence("decoders", LEVEL, STRIP)}, ("byte_level", False, True)),
        ({"decoder": LEVEL, "normalizer": PREPEND}, ("byte_level", True, False)),
        ({"normalizer": {**PREPEND, "prepend": " "}}, ("byte_fallback", False, False)),
        (
            {"normalizer": sequence("normalizers", {"type": "NFC"}, PREPEND)},
            ("byte_fallback", True, False),
        ),
        ({"decoder": {"type": "Sequence"}}, ("byte_fallback", False, False)),
    ],
)
def test_detects(tokenizer: dict[str, Any], expected: tuple[str, bool, bool]) -> None:
    assert detect(tokenizer) == TokenizerInfo(*expected)


def copied(directory: Path, **changes: Any) -> Path:
    obj = json.loads((GOLDEN / "tokenizer.json").read_text())
    (directory / "tokenizer.json").write_text(json.dumps(obj | changes))
    return directory


def test_reads_a_tokenizer(tmp_path: Path) -> None:
    for name in ("merges.txt", "tokenizer.model", "special_tokens_map.json"):
        (tmp_path / name).touch()
    facts = read_tokenizer(copied(tmp_path))
    assert facts.files == ("tokenizer.model", "tokenizer.json", "merges.txt")
    assert facts.info == TokenizerInfo(
        "byte_level", prepend_space_in_encode=False, strip_space_in_decode=False
    )
    assert facts.size == 300


def test_size_counts_added_tokens(tmp_path: Path) -> None:
    added = json.loads((GOLDEN / "tokenizer.json").read_text())["added_tokens"]
    more = {**added[0], "id": 300, "content": "<|more|>"}
    assert read_tokenizer(copied(tmp_path, added_tokens=[*added, more])).size == 301


def test_tokens_added_twice_are_named(tmp_path: Path) -> None:
    added = json.loads((GOLDEN / "tokenizer.json").read_text())["added_tokens"]
    with pytest.raises(OlmoError) as caught:
        read_tokenizer(copied(tmp_path, added_tokens=added * 2))
    assert "added_tokens holds '<|endoftext|>', '<|padding|>' more than once" in str(caught.value)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match=r"no tokenizer\.json") as caught:
        read_tokenizer(tmp_path)
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a table of fields"),
        ("{", "not JSON"),
        ('{"version": "1.0"}', "not a tokenizer: "),
        ('{"added_tokens": 5}', "not a tokenizer: "),
        ('{"decoder": {"type": ["Fuse"]}}', "not a tokenizer: "),
        ('{"decoder": {"type": "Sequence", "decoders": 5}}', "not a tokenizer: "),
    ],
)
def test_broken_tokenizer(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(OlmoError) as caught:
        read_tokenizer(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "size", "method"),
    [("sentencepiece", 360, "byte_fallback"), ("tiktoken", 302, "byte_level")],
)
def test_an_older_form_is_converted(kind: str, size: int, method: str) -> None:
    facts = read_tokenizer(GOLDEN.parent / kind)
    assert facts.files[-1] == "tokenizer.json"
    assert (facts.size, facts.info.token_postproc_method) == (size, method)
    assert facts.made.keys() == {"tokenizer.json"}
    assert len(facts.warnings) == (kind == "tiktoken")


def test_a_tokenizer_json_comes_before_older_forms(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parent / "sentencepiece", tmp_path, dirs_exist_ok=True)
    facts = read_tokenizer(copied(tmp_path))
    assert not facts.made
    assert "tokenizer.model" in facts.files


def test_two_tiktoken_files(tmp_path: Path) -> None:
    (tmp_path / "a.tiktoken").touch()
    (tmp_path / "b.tiktoken").touch()
    with pytest.raises(OlmoError, match=r"no tokenizer\.json"):
        read_tokenizer(tmp_path)


def test_an_added_token_that_gets_another_id(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parent / "sentencepiece", tmp_path, dirs_exist_ok=True)
    config = {"added_tokens_decoder": {"400": {"content": "<|x|>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(OlmoError, match="has the id 400, but tokenizers gives it 360"):
        read_tokenizer(tmp_path)


def test_the_tokenizer_in_a_gguf_file_comes_last(tmp_path: Path) -> None:
    said = tokenizer_metadata(GOLDEN.parent / "pub-a-gguf" / "pub-a-f16.gguf")
    facts = read_tokenizer(tmp_path, said)
    assert facts.made.keys() == {"tokenizer.json"}
    assert (facts.size, facts.info.token_postproc_method) == (300, "byte_level")
    with pytest.raises(OlmoError, match=r"\*\.gguf: tokenizer\.ggml\.model 'x' is not read"):
        read_tokenizer(tmp_path, said | {"model": "x"})
    with pytest.raises(OlmoError, match=r"no tokenizer\.json"):
        read_tokenizer(tmp_path, {})
    assert not read_tokenizer(copied(tmp_path), said | {"model": "x"}).made
