"""A store and a server in memory: the models that others are tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from cache import digest as digests
from cache import sealing, streaming
from cache.digest import CHUNK
from cache.errors import CacheError, CorruptBlob, MissingBlob
from cache.remote.transport import OneByOne

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cache.action import ActionResult
    from cache.digest import Digest


class MemoryStore:
    """A `Store` that lives as long as the object.

    blobs, results: the bytes as held, by digest and by action key; a test may damage them.
    """

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.results: dict[Digest, bytes] = {}

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the digests whose blobs are not held intact."""
        return {digest for digest in digests if not self._holds(digest)}

    def read(self, digest: Digest) -> bytes:
        """Return a blob, verified; MissingBlob or CorruptBlob if there is none."""
        data = self.blobs.get(digest)
        if data is None:
            raise MissingBlob(f"blob {digest} is not in memory")
        if not self._holds(digest):
            raise CorruptBlob(f"blob {digest} was damaged in memory")
        return data

    def write(self, data: bytes) -> Digest:
        """Store a blob and return its digest."""
        digest = digests.of_bytes(data)
        self.blobs[digest] = bytes(data)
        return digest

    def download(self, digest: Digest, into: BinaryIO) -> None:
        """Replace the content of an open file by a blob, verified."""
        streaming.receive([self.read(digest)], digest, into)

    def upload(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob that is all of an open file's content."""
        self.write(b"".join(streaming.send(source, digest)))

    def get_result(self, key: Digest) -> ActionResult | None:
        """Return the result of an action, or None if there is no complete one."""
        try:
            result = sealing.unseal(key, self.results[key])
        except (KeyError, CacheError):
            return None
        return None if self.missing(result.outputs.values()) else result

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Remember the result of an action; MissingBlob if an output's blob is missing."""
        entry = sealing.seal(key, result)
        if missing := self.missing(result.outputs.values()):
            raise MissingBlob(f"result {key}: blob {min(missing)} is missing")
        self.results[key] = entry

    def _holds(self, digest: Digest) -> bool:
        """Return whether the blob is held intact; a damaged one is dropped."""
        data = self.blobs.get(digest)
        if data is not None and digests.of_bytes(data) != digest:
            del self.blobs[digest]
            return False
        return data is not None


class MemoryTransport(OneByOne):
    """A `Transport` to a server in this process, which verifies nothing.

    blobs, results: the bytes as held, by digest and by action key; a test may damage them.
    """

    address = "memory"
    forks = False

    def __init__(self, *, write_once: bool = False) -> None:
        self.write_once = write_once
        self.blobs: dict[Digest, bytes] = {}
        self.results: dict[Digest, bytes] = {}

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that are not there."""
        return {digest for digest in digests if digest not in self.blobs}

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on."""
        if digest not in self.blobs:
            raise MissingBlob(f"blob {digest} is not in memory")
        data = self.blobs[digest]
        for start in range(offset, len(data), CHUNK):
            yield data[start : start + CHUNK]

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file."""
        self.blobs[digest] = b"".join(streaming.send(source, digest))

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        return self.results.get(key)

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key; return whether that was done."""
        if self.write_once and not replace and key in self.results:
            return False
        self.results[key] = entry
        return True

    def close(self) -> None:
        """Nothing is open."""
