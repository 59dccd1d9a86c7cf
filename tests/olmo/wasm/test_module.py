import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.errors import OlmoError
from olmo.wasm.module import exports, imports

MAGIC = b"\0asm\1\0\0\0"
NAMES = st.text(st.characters(codec="utf-8"), max_size=200)


def number(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def vector(items: list[bytes]) -> bytes:
    return number(len(items)) + b"".join(items)


def text(name: str) -> bytes:
    return number(len(name.encode())) + name.encode()


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + number(len(content)) + content


# What follows the names of an import, by kind: a type, a table, a memory, a global.
KINDS = st.sampled_from([b"\0\x80\1", b"\1\x70\0\5", b"\1\x70\1\5\x80\2", b"\2\0\1", b"\3\x7f\1"])


@given(
    st.lists(st.tuples(NAMES, NAMES, KINDS)),
    st.lists(st.tuples(NAMES, st.integers(0, 3), st.integers(0, 2**32 - 1))),
    st.binary(max_size=300),
)
def test_what_is_written_is_read(
    asked: list[tuple[str, str, bytes]], offered: list[tuple[str, int, int]], custom: bytes
) -> None:
    data = (
        MAGIC
        + section(0, custom)
        + section(2, vector([text(module) + text(name) + kind for module, name, kind in asked]))
        + section(7, vector([text(n) + bytes([kind]) + number(i) for n, kind, i in offered]))
        + section(0, custom)
    )
    assert imports(data) == {f"{module}.{name}" for module, name, _ in asked}
    assert exports(data) == {name for name, _, _ in offered}


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7fELF", MAGIC + b"\2", MAGIC + b"\2\5\1\1", MAGIC + section(2, b"\1\1a\1b\x63")],
)
def test_what_is_no_module(data: bytes) -> None:
    with pytest.raises(OlmoError, match="not a WebAssembly module"):
        imports(data)
