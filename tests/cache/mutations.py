"""Messages that were valid once: what fuzzing gives decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from cache import wire

if TYPE_CHECKING:
    from collections.abc import Callable

Edit = tuple[str, float, float, bytes]

_INTERESTING = st.sampled_from(
    [
        b"",
        b"\0",
        b"\xff" * 10,
        wire.varint((1 << 64) - 1),
        wire.varint(1 << 63),
        b"../",
        b"/",
        b"\\",
        b"A",
        b"\x1b[2J",
        wire.field(2, b""),
        wire.field(9, b""),
        wire.field(12, wire.field(1, b"a")),
    ]
)
_EDITS = st.tuples(
    st.sampled_from(["flip", "insert", "replace", "remove", "repeat", "truncate", "grow"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    _INTERESTING | st.binary(max_size=8),
)


def mutated(messages: st.SearchStrategy[bytes], most: int = 6) -> st.SearchStrategy[bytes]:
    """Messages with some edits, or none of the kind at all."""
    edits = st.lists(_EDITS, max_size=most)
    return st.builds(_edited, messages, edits) | st.binary(max_size=200)


def _edited(message: bytes, edits: list[Edit]) -> bytes:
    for kind, where, other, data in edits:
        begin, end = sorted((int(where * (len(message) + 1)), int(other * (len(message) + 1))))
        message = _KINDS[kind](message, begin, end, data)
    return message


def _flip(message: bytes, begin: int, end: int, _: bytes) -> bytes:
    if begin >= len(message):
        return message
    return message[:begin] + bytes((message[begin] ^ 1 << end % 8,)) + message[begin + 1 :]


def _grow(message: bytes, begin: int, _end: int, data: bytes) -> bytes:
    """Change a length or another small number by one."""
    if begin >= len(message):
        return message + data
    return message[:begin] + bytes(((message[begin] + 1) % 256,)) + message[begin + 1 :]


_KINDS: dict[str, Callable[[bytes, int, int, bytes], bytes]] = {
    "flip": _flip,
    "insert": lambda message, begin, _, data: message[:begin] + data + message[begin:],
    "replace": lambda message, begin, end, data: message[:begin] + data + message[end:],
    "remove": lambda message, begin, end, _: message[:begin] + message[end:],
    "repeat": lambda message, begin, end, _: message[:end] + message[begin:],
    "truncate": lambda message, begin, _end, _data: message[:begin],
    "grow": _grow,
}
