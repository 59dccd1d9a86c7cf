"""zstd of others: whatever it is, no byte more than there is; and zstd of ours, where it is worth it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import CorruptBlob
from cache.remote import compression

DATA = b"".join(b"%d," % number for number in range(300_000))
NOISE = random.Random(1).randbytes(3 << 20)  # noqa: S311  no secret


def compress(data: bytes, **parameters: int) -> bytes:
    chosen = zstandard.ZstdCompressionParameters(**parameters)
    frame = zstandard.ZstdCompressor(compression_params=chosen).compressobj()
    return frame.compress(data) + frame.flush()


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def got(parts: list[bytes], size: int) -> bytes:
    return b"".join(compression.decompressed(parts, size))


@given(st.lists(st.binary(max_size=200)), st.integers(1, 100))
def test_round_trip(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    assert got(split(b"".join(compression.compressed(parts)), size), len(data)) == data


@pytest.mark.parametrize(
    "data", [DATA, NOISE, b"", bytes(10 << 20)], ids=["text", "noise", "empty", "zeros"]
)
@pytest.mark.parametrize("level", [1, 12])
def test_what_others_compress(data: bytes, level: int) -> None:
    whole = zstandard.compress(data[: 2 << 20], level)
    assert got(split(whole, 1 << 20), len(data[: 2 << 20])) == data[: 2 << 20]


def test_several_frames_are_one_blob() -> None:
    frames = [compress(part) for part in split(DATA, 1 << 20)]
    assert got(frames, len(DATA)) == DATA
    assert got([b"".join(frames)], len(DATA)) == DATA


@pytest.mark.parametrize(
    "more",
    [
        compress(b"x"),
        b"x",
        b"\x28\xb5\x2f\xfd",  # how a frame begins
        bytes(100),
        compress(b"") * 1000 + compress(b"x"),
    ],
)
def test_not_a_byte_more_is_taken(more: bytes) -> None:
    """But for the beginning of a frame that has none."""
    parts = compression.decompressed([compress(DATA), more], len(DATA))
    if more == b"\x28\xb5\x2f\xfd":
        assert b"".join(parts) == DATA
        return
    with pytest.raises(CorruptBlob):
        list(parts)


def test_a_bomb_ends_at_its_first_byte_too_many() -> None:
    bomb = compress(bytes(1 << 30))
    assert len(bomb) < 1 << 17
    for size in (0, 1, 1000, 3 << 20):
        parts = compression.decompressed([bomb], size)
        taken: list[bytes] = []
        with pytest.raises(CorruptBlob, match="more bytes than that"):
            taken.extend(parts)
        assert sum(map(len, taken)) <= size


def test_an_endless_stream_ends() -> None:
    endless = itertools.repeat(compress(b"") * 100)
    with pytest.raises(CorruptBlob, match="more bytes than its zstd could have"):
        list(compression.decompressed(endless, 1000))


def test_no_frame_takes_more_memory_than_encoders_use() -> None:
    assert got([compress(b"x", window_log=25)], 1) == b"x"
    with pytest.raises(CorruptBlob):
        got([compress(b"x", window_log=26)], 1)


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 10, 1000, -10])
def test_what_ends_too_early_is_less(kept: int) -> None:
    """Which whoever knows the size of a blob notices."""
    assert len(got([compress(NOISE)[:kept]], len(NOISE))) < len(NOISE)


@given(st.binary(max_size=300), st.integers(0, 100))
def test_garbage_is_none(data: bytes, size: int) -> None:
    with contextlib.suppress(CorruptBlob):
        assert len(got([data], size)) <= size


@given(st.integers(0), st.integers(1, 255))
def test_flipped_bits(position: int, flip: int) -> None:
    data = DATA[:3000]
    frame = bytearray(compress(data, write_checksum=1))
    frame[position % len(frame)] ^= flip
    try:
        found = got([bytes(frame)], len(data))
    except CorruptBlob:
        return
    assert len(found) <= len(data)


def test_a_broken_connection_is_told_as_such() -> None:
    def parts() -> list[bytes]:
        yield compress(NOISE)[: 1 << 20]
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError, match="cut"):
        list(compression.decompressed(parts(), len(NOISE)))


def test_text_gains_and_noise_does_not() -> None:
    assert compression.gains(io.BytesIO(DATA), len(DATA))
    assert not compression.gains(io.BytesIO(NOISE), len(NOISE))
    small = json.dumps(list(range(100))).encode()
    assert compression.gains(io.BytesIO(small), len(small))
    assert compression.compress(NOISE[:1000]) is None
    assert compression.compress(b"") is None


def test_weights_with_a_long_table_before_them_do_not_gain() -> None:
    weights = DATA[: 1 << 19] + NOISE
    assert not compression.gains(io.BytesIO(weights), len(weights))


def test_what_is_larger_than_a_library_is_not_asked_for() -> None:
    assert compression.asks(8 << 20)
    assert not compression.asks(32 << 20)
