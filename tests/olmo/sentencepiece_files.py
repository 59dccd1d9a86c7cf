"""Small sentencepiece models for tests, written field by field."""

from collections.abc import Sequence

from olmo.configuration.sentencepiece_model import BPE, NORMAL


def varint(value: int) -> bytes:
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def message(fields: Sequence[tuple[int, int | bytes]]) -> bytes:
    written = b""
    for number, value in fields:
        if isinstance(value, int):
            written += varint(number << 3) + varint(value)
        else:
            written += varint(number << 3 | 2) + varint(len(value)) + value
    return written


def piece(text: str, kind: int = NORMAL) -> bytes:
    return message([(1, text.encode()), (3, kind)])


def model(
    pieces: Sequence[bytes],
    *,
    kind: int = BPE,
    byte_fallback: bool = True,
    prefix: bool = True,
    remove_spaces: bool = False,
    charsmap: bytes = b"",
) -> bytes:
    trainer = message([(3, kind), (35, int(byte_fallback))])
    normalizer = message([(2, charsmap), (3, int(prefix)), (4, int(remove_spaces))])
    return message([(1, p) for p in pieces]) + message([(2, trainer), (3, normalizer)])
