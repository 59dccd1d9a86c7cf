import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given
from hypothesis import strategies as st

from olmo.checkpoints.gguf_header import TYPES, Header, parse_header
from olmo.errors import OlmoError

GOLDEN = Path(__file__).parents[2] / "golden" / "pub-a-gguf"
FILE = GOLDEN / "pub-a-q8_0.gguf"


def parse(path: Path) -> Header:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return parse_header(descriptor, path.name)
    finally:
        os.close(descriptor)


def failure(tmp_path: Path, data: bytes) -> OlmoError:
    path = tmp_path / "f.gguf"
    path.write_bytes(data)
    with pytest.raises(OlmoError) as caught:
        parse(path)
    return caught.value


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def header(
    keys: list[bytes] | None = None, tensors: list[bytes] | None = None, data: int = 4096
) -> bytes:
    keys, tensors = keys or [], tensors or []
    written = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    return written + b"".join(keys + tensors) + bytes(data)


def tensor(
    name: str = "t", shape: tuple[int, ...] = (4, 2), kind: int = 0, offset: int = 0
) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + sizes + struct.pack("<IQ", kind, offset)


def key(name: str, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.gguf")), ids=lambda path: path.name)
def test_reads_what_ggufs_own_reader_reads(path: Path) -> None:
    found, reader = parse(path), gguf.GGUFReader(path)
    expected: dict[str, Any] = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    assert found.metadata == expected
    assert {(t.name, t.type, t.shape, t.offset) for t in found.tensors} == {
        (t.name, t.tensor_type.name, tuple(t.shape.tolist()[::-1]), t.data_offset)
        for t in reader.tensors
    }


def test_types_are_those_of_ggml() -> None:
    for number, (name, block, nbytes) in TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, GGML_QUANT_SIZES[kind]) == (name, (block, nbytes))


def test_metadata_of_every_type(tmp_path: Path) -> None:
    keys = [
        key("u8", 0, b"\xff"), key("i8", 1, b"\xff"), key("u16", 2, b"\xff\xff"),
        key("i16", 3, b"\xff\xff"), key("u32", 4, b"\xff" * 4), key("i32", 5, b"\xff" * 4),
        key("f32", 6, struct.pack("<f", 0.5)), key("true", 7, b"\x01"), key("text", 8, string("é")),
        key("list", 9, struct.pack("<IQHH", 2, 2, 7, 8)), key("u64", 10, b"\xff" * 8),
        key("i64", 11, b"\xff" * 8), key("f64", 12, struct.pack("<d", 0.1)),
    ]  # fmt: skip
    path = tmp_path / "f"
    path.write_bytes(header(keys))
    assert parse(path).metadata == {
        "u8": 255, "i8": -1, "u16": 65535, "i16": -1, "u32": 2**32 - 1, "i32": -1, "f32": 0.5,
        "true": True, "text": "é", "list": [7, 8], "u64": 2**64 - 1, "i64": -1, "f64": 0.1,
    }  # fmt: skip


def test_alignment_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(header([key("general.alignment", 4, struct.pack("<I", 256))], [tensor()]))
    assert [t.offset for t in parse(path).tensors] == [256]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the header ends early"),
        (b"GGML" + bytes(20), "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a GGUF file big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "the header ends early"),
        (header([key("a", 7, b"\0"), key("a", 7, b"\0")]), "the key 'a' occurs twice"),
        (header([key("a", 13, b"\0")]), "unknown type 13"),
        (header([struct.pack("<Q", 1 << 40)]), "a string of 1099511627776 bytes"),
        (header([struct.pack("<Q", 1) + b"\xff"]), "not UTF-8"),
        (header([key("a", 9, struct.pack("<IQ", 9, 1))]), "a list of lists"),
        (header([key("a", 9, struct.pack("<IQ", 0, 1 << 50))]), "a list of lists, or of 1125899906842624 values"),
        (header([key("general.alignment", 4, struct.pack("<I", 24))]), "not a power of two"),
        (header([], [tensor(shape=())]), "tensor 't': has 0 dimensions"),
        (header([], [tensor(shape=(1,) * 5)]), "has 5 dimensions"),
        (header([], [tensor(kind=99)]), "unknown ggml type 99"),
        (header([], [tensor(shape=(33, 2), kind=8)]), "33 elements are not whole blocks of Q8_0"),
        (header([], [tensor(offset=16)]), "is not aligned"),
        (header([], [tensor("a"), tensor("b")]), "tensor 'b' overlaps another"),
        (header([], [tensor("a"), tensor("a", offset=32)]), "tensor 'a' occurs twice"),
        (header([], [tensor(shape=(1 << 40, 1 << 40))]), "goes beyond the end of the file"),
    ],
)  # fmt: skip
def test_a_broken_header(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in str(failure(tmp_path, data))


@pytest.mark.parametrize("cut", [8, 23, 200, 5000, -1])
def test_a_truncated_file(tmp_path: Path, cut: int) -> None:
    error = failure(tmp_path, FILE.read_bytes()[:cut])
    assert error.hint is not None
    assert "download" in error.hint


@given(st.integers(0, 9000), st.integers(1, 255))
def test_a_changed_byte_ends_in_a_header_or_one_error(position: int, change: int) -> None:
    data = bytearray(FILE.read_bytes())
    data[position] ^= change
    descriptor = os.memfd_create("changed")
    try:
        os.write(descriptor, data)
        parse_or_refuse: Callable[[int, str], Header] = parse_header
        parse_or_refuse(descriptor, "f")
    except OlmoError:
        pass
    finally:
        os.close(descriptor)
