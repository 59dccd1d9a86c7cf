"""Blobs as zstd, on their way to and from a server: what is worth it, and no byte more than there is.

Libraries and JSON are a quarter as zstd; weights are between 0.78 and 0.93, at 0.7 GB for a second of
a processor that a build has better uses for. So what goes up is tried: a sample of it has to become a
third smaller. Of what comes down only the size is known. What is larger than any library is weights,
and is asked for as it is. Level 1, since level 3 takes twice the time to gain a twentieth.

Source of the format: RFC 8878.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import zstandard

from cache.digest import CHUNK
from cache.errors import CorruptBlob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LEVEL = 1
_WINDOW = 32 << 20  # bytes of memory for a stream: the most that encoders use unless asked for more
_LARGEST = 16 << 20  # bytes of a blob that may be no weights
_PIECES, _PIECE = 8, 1 << 16  # of a blob, all over it, that are its sample


def asks(size: int) -> bool:
    """Return whether a blob of so many bytes is asked for as zstd."""
    return size <= _LARGEST


def gains(source: BinaryIO, size: int) -> bool:
    """Return whether a blob, the content of a file, becomes much smaller; tried on a sample of it.

    The sample is from all over: a file of weights may begin with a long table in JSON.
    """
    step = max((size - _PIECE) / (_PIECES - 1), _PIECE)
    pieces = []
    for number in range(_PIECES):
        source.seek(int(number * step))
        pieces.append(source.read(_PIECE))
    return compress(b"".join(pieces)) is not None


def compress(data: bytes) -> bytes | None:
    """Return bytes as zstd, None where that is not much smaller."""
    compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    return compressed if 3 * len(compressed) <= 2 * len(data) else None


def compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what comes in parts as zstd; what is read last is in the last part."""
    chunks = zstandard.ZstdCompressor(level=_LEVEL).chunker(chunk_size=CHUNK)
    for part in parts:
        yield from chunks.compress(part)
    yield from chunks.finish()  # type: ignore[no-untyped-call]  # the package forgot its type


def decompressed(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the bytes of untrusted zstd that comes in parts, frames one after the other; `size` at most.

    What ends too early has fewer bytes.

    Raises:
        CorruptBlob: it is no zstd, needs too much memory, or has more bytes, or more around them
            than there could be.
    """
    left = size
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    source = _Bounded(parts, size + size // 16 + CHUNK)
    try:
        with decompressor.stream_reader(
            source,  # type: ignore[arg-type]  # of a file it needs no more than this
            read_across_frames=True,
            closefd=False,
        ) as reader:
            while part := reader.read(min(CHUNK, left + 1)):
                left -= len(part)
                if left < 0:
                    raise CorruptBlob("more bytes than that")
                yield part
    except zstandard.ZstdError:
        raise CorruptBlob("what came is no zstd") from None


class _Bounded:
    """Parts as a file that has no more than so many bytes."""

    def __init__(self, parts: Iterable[bytes], most: int) -> None:
        self._parts = iter(parts)
        self._left = most

    def read(self, _: int = -1) -> bytes:
        """Return the next part, whatever its size."""
        part = next(self._parts, b"")
        self._left -= len(part)
        if self._left < 0:
            raise CorruptBlob("more bytes than its zstd could have")
        return part
