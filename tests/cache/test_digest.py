from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cache import digest
from cache.digest import CHUNK, EMPTY, Digest
from cache.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_empty_blob() -> None:
    assert str(EMPTY) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0"


@given(st.binary())
def test_text_round_trip(data: bytes) -> None:
    value = digest.of_bytes(data)
    assert value == Digest(hashlib.sha256(data).hexdigest(), len(data))
    assert digest.parse(str(value)) == value


def test_a_view_is_measured_in_bytes() -> None:
    view = memoryview(bytes(8)).cast("I")
    assert digest.of_bytes(view) == digest.of_bytes(bytes(8))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_file_is_hashed_in_full(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    found = digest.of_file(path)
    assert found.digest == digest.of_bytes(data)
    assert found.xxh3 == xxhash.xxh3_128_digest(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert digest.xxh3_of_descriptor(descriptor) == found.xxh3
    finally:
        os.close(descriptor)


def test_a_growing_file_is_not_followed_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some")
    preadv = os.preadv

    def grow(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        with path.open("ab") as handle:
            handle.write(b"more")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", grow)
    with pytest.raises(CacheError, match="file: changes while it is read"):
        digest.of_file(path)


HASH = "0" * 64


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("", 0),
        (HASH[1:], 0),
        (HASH + "0", 0),
        (HASH + "\n", 0),
        ("A" * 64, 0),
        ("../" + HASH[3:], 0),
        ("\N{ARABIC-INDIC DIGIT ZERO}" * 64, 0),
        (HASH, -1),
        (HASH, 1 << 63),
    ],
)
def test_no_other_digest_can_exist(name: str, size: int) -> None:
    with pytest.raises(CacheError, match="not a digest"):
        Digest(name, size)


@pytest.mark.parametrize(
    "text", ["", HASH, HASH + "/", HASH + "/-1", HASH + "/01", HASH + "/1 ", HASH + "/9" * 2, "/1"]
)
def test_a_digest_has_one_spelling(text: str) -> None:
    with pytest.raises(CacheError, match="not a digest"):
        digest.parse(text)


def test_digests_sort_by_hash_then_size() -> None:
    values = [Digest("b" * 64, 0), Digest("a" * 64, 2), Digest("a" * 64, 1)]
    assert sorted(values) == [values[2], values[1], values[0]]


def test_equal_messages_are_the_same_digest() -> None:
    """A hundred thousand results that name the same files hold each digest once."""
    message = digest.encode(digest.of_bytes(b"a"))
    assert digest.decode(message) is digest.decode(bytes(bytearray(message)))


def test_a_long_message_is_decoded_too() -> None:
    """Strangers may say more than a digest needs; what they say is not kept."""
    one = digest.of_bytes(b"a")
    assert digest.decode(digest.encode(one) + b"\x1a\x40" + bytes(64)) == one
