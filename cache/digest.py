"""The identity of bytes: sha256 and size, as in the Remote Execution API.

xxh3_128 rides along where a file is read anyway. It only ever answers "did this local file
change"; it is no identity, since it resists no adversary.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import xxhash

from cache import wire
from cache.errors import CacheError, CorruptBlob

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 20  # smaller reads cost up to three times the CPU, larger ones gain nothing

_SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_SIZE = (1 << 63) - 1  # size_bytes is an int64
_MAX_MESSAGE = 80  # bytes of the longest canonical `Digest` message, and a few more


@dataclass(frozen=True, order=True, slots=True)
class Digest:
    """A blob's sha256 (64 lower-case hex digits) and its size in bytes.

    Raises:
        CacheError: the hash or the size cannot be those of a blob.
    """

    hash: str
    size: int

    def __post_init__(self) -> None:
        if _SHA256_HEX.fullmatch(self.hash) is None or not 0 <= self.size <= _MAX_SIZE:
            raise CacheError(
                f"not a digest: {self.hash[:80]!r}/{self.size}",
                "a digest is 64 lower-case hex digits of sha256 and a size in bytes",
            )

    def __str__(self) -> str:
        return f"{self.hash}/{self.size}"


@dataclass(frozen=True, slots=True)
class FileHash:
    """What one pass over a file tells: its digest, and the xxh3_128 of the same bytes."""

    digest: Digest
    xxh3: bytes


def of_bytes(data: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of `data`."""
    return Digest(hashlib.sha256(data).hexdigest(), memoryview(data).nbytes)


def parse(text: str) -> Digest:
    """Return the digest written as "hash/size", the inverse of `str`.

    Raises:
        CacheError: the text is no digest in its one canonical form.
    """
    name, _, size = text.partition("/")
    if re.fullmatch(r"0|[1-9][0-9]{0,18}", size, re.ASCII) is None:
        raise CacheError(f"not a digest: {text[:120]!r}", 'write it as "hash/size"')
    return Digest(name, int(size))


def encode(digest: Digest) -> bytes:
    """Return a digest as a canonical `Digest` message of the Remote Execution API."""
    if digest.size == 0:  # proto3 writes no zero
        return b"\n\x40%b" % digest.hash.encode()
    return b"\n\x40%b\x10%b" % (digest.hash.encode(), wire.varint(digest.size))


def decode(message: bytes) -> Digest:
    """Return the digest in an untrusted `Digest` message; of one that was lately decoded the same object.

    Raises:
        CorruptBlob: there is none.
    """
    return _decoded(message) if len(message) <= _MAX_MESSAGE else _parsed(message)


def _parsed(message: bytes) -> Digest:
    fields = wire.parse(message)
    try:
        return Digest(wire.string(fields, 1), wire.integer(fields, 2))
    except CacheError as error:
        raise CorruptBlob(str(error), error.hint) from None


# The results of a large release name the same files again and again.
_decoded = lru_cache(maxsize=1 << 15)(_parsed)


def of_file(path: str | os.PathLike[str]) -> FileHash:
    """Return the hashes of a file's content, read once.

    Raises:
        OSError: the file cannot be read.
        CacheError: its size changes meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        hashed = of_descriptor(descriptor)
        if hashed.digest.size != os.fstat(descriptor).st_size:
            raise changing(path)
    finally:
        os.close(descriptor)
    return hashed


def of_descriptor(descriptor: int) -> FileHash:
    """Return the hashes of what an open file holds from its start, read once.

    A file that grows meanwhile is not followed: reading ends beyond the size that it had.
    """
    sha256 = hashlib.sha256()
    xxh3 = xxhash.xxh3_128()
    size = 0
    for part in parts(descriptor):
        size += len(part)
        sha256.update(part)
        xxh3.update(part)
    return FileHash(Digest(sha256.hexdigest(), size), xxh3.digest())


def xxh3_of_descriptor(descriptor: int) -> bytes:
    """Return the xxh3_128 alone, ten times cheaper than `of_descriptor`."""
    xxh3 = xxhash.xxh3_128()
    for part in parts(descriptor):
        xxh3.update(part)
    return xxh3.digest()


def parts(descriptor: int) -> Iterator[memoryview]:
    """Yield what an open file holds from its start, each part valid until the next one."""
    expected = os.fstat(descriptor).st_size
    buffer = memoryview(bytearray(min(expected + 1, CHUNK)))
    size = 0
    while size <= expected and (count := os.preadv(descriptor, [buffer], size)):
        size += count
        yield buffer[:count]


def changing(path: str | os.PathLike[str]) -> CacheError:
    """Return the error of a file that does not stay the same for as long as it is read."""
    return CacheError(
        f"{os.fspath(path)}: changes while it is read",
        "wait until the program that writes it is done",
    )


EMPTY = of_bytes(b"")
