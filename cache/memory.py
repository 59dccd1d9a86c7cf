"""A store in memory: the model that the others are tested against, and a quick one for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache import digest as digests
from cache import sealing
from cache.errors import CacheError, CorruptBlob, MissingBlob

if TYPE_CHECKING:
    from collections.abc import Iterable

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
