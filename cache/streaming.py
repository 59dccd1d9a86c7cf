"""Blobs on their way between a file and a server, verified part by part and never whole in memory."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

from cache import parallel
from cache.digest import CHUNK
from cache.errors import CorruptBlob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from cache.digest import Digest

_IN_FLIGHT = 4  # parts that are hashed while the next ones arrive


def receive(parts: Iterable[bytes], digest: Digest, into: BinaryIO) -> None:
    """Write a blob that arrives in parts to a file, from the start of the file.

    Raises:
        CorruptBlob: the parts are not the blob; reading stops at the first byte too many. The
            file holds something else then.
    """
    if into.seek(0, os.SEEK_END):  # what is truncated, ext4 writes to disk when it is closed
        into.seek(0)
        into.truncate()
    if digest.size <= CHUNK:
        data = b"".join(_bounded(parts, digest))
        if hashlib.sha256(data).hexdigest() != digest.hash:
            raise _wrong(digest)
        into.write(data)
        return
    sha256 = hashlib.sha256()
    pending: deque[Future[None]] = deque()
    with parallel.pool(1) as hasher:  # beside the network and the disk, not after them
        for part in _bounded(parts, digest):
            pending.append(hasher.submit(sha256.update, part))
            into.write(part)
            if len(pending) > _IN_FLIGHT:
                pending.popleft().result()
    if sha256.hexdigest() != digest.hash:
        raise _wrong(digest)


def send(source: BinaryIO, digest: Digest, offset: int = 0) -> Iterator[bytes]:
    """Yield the bytes of a file from `offset` on, the last part only once all are verified.

    An empty blob has no parts.

    Raises:
        CorruptBlob: the file is not the blob.
    """
    source.seek(0)
    sha256 = hashlib.sha256()
    position = 0
    with parallel.pool(1) as hasher:  # beside the network, not before it
        hashed: Future[None] | None = None
        while position < digest.size:
            part = source.read(min(CHUNK, digest.size - position))
            position += len(part)
            ends = position == digest.size
            if hashed is not None:
                hashed.result()
            if ends:  # a small blob needs no thread
                sha256.update(part)
            else:
                hashed = hasher.submit(sha256.update, part)
            if not part or (ends and (source.read(1) or sha256.hexdigest() != digest.hash)):
                raise CorruptBlob(f"blob {digest}: the file to upload holds something else")
            if position > offset:
                yield part[max(0, len(part) - (position - offset)) :]


def _bounded(parts: Iterable[bytes], digest: Digest) -> Iterator[bytes]:
    """Yield parts that have the size of the blob in all."""
    size = 0
    for part in parts:
        size += len(part)
        if size > digest.size:
            raise CorruptBlob(f"blob {digest}: more bytes than that")
        yield part
    if size < digest.size:
        raise CorruptBlob(f"blob {digest}: only {size} bytes")


def _wrong(digest: Digest) -> CorruptBlob:
    return CorruptBlob(f"blob {digest}: the bytes have another digest")
