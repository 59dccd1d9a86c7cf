"""A sentencepiece `tokenizer.model`, read without the sentencepiece package.

The file is a protobuf message of a few fields. Source: `sentencepiece_model.proto`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from olmo.errors import OlmoError

BPE = 2  # trainer_spec.model_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # piece types

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Wire = Literal[0, 1, 2, 5]


@dataclass(frozen=True, slots=True)
class Piece:
    """A token: its text, with a space written as U+2581, and its type."""

    text: str
    type: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """What a tokenizer of this kind is made of; a piece's id is its position."""

    pieces: tuple[Piece, ...]
    is_bpe: bool
    byte_fallback: bool
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    normalizes: bool


def parse_model(data: bytes, where: str) -> SentencePieceModel:
    """Return a parsed `tokenizer.model`; `where` names it in errors.

    Raises:
        OlmoError: not such a file, or one without pieces.
    """
    try:
        fields = list(_fields(data))
        pieces = tuple(_piece(value) for number, value in fields if number == 1)
        trainer = dict(_fields(_message(fields, 2)))
        normalizer = dict(_fields(_message(fields, 3)))
    except (IndexError, ValueError, TypeError, AttributeError, struct.error):
        raise OlmoError(
            f"{where}: not a sentencepiece model", "the file is damaged: download or copy it again"
        ) from None
    if not pieces:
        raise OlmoError(f"{where}: a sentencepiece model without pieces")
    return SentencePieceModel(
        pieces,
        is_bpe=trainer.get(3, 1) == BPE,
        byte_fallback=bool(trainer.get(35, 0)),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        normalizes=bool(normalizer.get(2, b"")),
    )


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    return Piece(fields.get(1, b"").decode("utf-8"), fields.get(3, NORMAL))


def _message(fields: list[tuple[int, Any]], number: int) -> bytes:
    return b"".join(value for key, value in fields if key == number)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield field numbers and values of a message: integers, or bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in {_FIXED32, _FIXED64}:
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(wire)
        if position + size > len(data):
            raise ValueError(size)
        yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(value)
