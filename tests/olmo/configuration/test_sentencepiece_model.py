import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.configuration.sentencepiece_model import BYTE, CONTROL, UNKNOWN, USER_DEFINED, parse_model
from olmo.errors import OlmoError
from tests.olmo.sentencepiece_files import message, model, piece

GOLDEN = Path(__file__).parents[2] / "golden" / "sentencepiece" / "tokenizer.model"


def test_a_model_of_sentencepiece() -> None:
    found = parse_model(GOLDEN.read_bytes(), "m")
    assert len(found.pieces) == 360
    assert [(p.text, p.type) for p in found.pieces[:5]] == [
        ("<unk>", UNKNOWN),
        ("<s>", CONTROL),
        ("</s>", CONTROL),
        ("<|user|>", USER_DEFINED),
        ("<0x00>", BYTE),
    ]
    assert (found.is_bpe, found.byte_fallback, found.add_dummy_prefix) == (True, True, True)
    assert (found.remove_extra_whitespaces, found.normalizes) == (False, False)


def test_defaults_of_absent_fields() -> None:
    found = parse_model(message([(1, piece("a"))]), "m")
    assert (found.is_bpe, found.byte_fallback, found.add_dummy_prefix) == (False, False, True)
    assert (found.remove_extra_whitespaces, found.normalizes) == (True, False)


def test_unknown_fields_are_passed_over() -> None:
    other = message([(99, 5), (98, b"x")]) + bytes([97 << 3 & 0x7F | 5 | 0x80, 97 >> 4]) + bytes(4)
    assert parse_model(model([piece("a")]) + other, "m") == parse_model(model([piece("a")]), "m")


@pytest.mark.parametrize(
    "data", [b"\xff" * 12, b"\x0a\x05ab", b"\x0f", b"\x0a\x03\x0a\x01\xff", struct.pack("<Q", 1)]
)
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(OlmoError, match="m: not a sentencepiece model"):
        parse_model(data, "m")


def test_a_model_without_pieces() -> None:
    with pytest.raises(OlmoError, match="without pieces"):
        parse_model(b"", "m")


@given(st.integers(0, 5576), st.integers(1, 255))
def test_a_changed_byte_ends_in_a_model_or_one_error(position: int, change: int) -> None:
    data = bytearray(GOLDEN.read_bytes())
    data[position] ^= change
    with contextlib.suppress(OlmoError):
        parse_model(bytes(data), "m")
