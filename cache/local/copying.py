"""Files read, written and copied: shared extents where the file system can, else hashed on the way."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat

import xxhash

from cache import digest as digests
from cache.digest import Digest, FileHash

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file


def copy(source: int, target: int) -> FileHash:
    """Fill an empty open file with the content of another; return the hashes of the copy.

    A source that grows meanwhile is not followed far beyond the size that it had.

    Raises:
        OSError: reading or writing failed; the target holds a part.
    """
    if _clone(source, target):
        return digests.of_descriptor(target)
    sha256 = hashlib.sha256()
    xxh3 = xxhash.xxh3_128()
    size = 0
    for part in digests.parts(source):
        size += len(part)
        sha256.update(part)
        xxh3.update(part)
        write(target, part)
    return FileHash(Digest(sha256.hexdigest(), size), xxh3.digest())


def write(target: int, data: bytes | memoryview) -> None:
    """Write all of `data` to an open file.

    Raises:
        OSError: writing failed; the file holds a part.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


def read(path: str, least: int, most: int) -> bytes | None:
    """Return a regular file's content, or None if its size is not in the bounds."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not least <= status.st_size <= most:
            return None
        parts = []
        while part := os.read(descriptor, max(status.st_size, 1)):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def sync(path: str) -> None:
    """Have a file or a directory on disk, to last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clone(source: int, target: int) -> bool:
    """Return whether the target now shares the source's content."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False  # another file system, or one that cannot
    return True
