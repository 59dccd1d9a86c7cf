"""What the tests of the stat cache share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache import digest as digests
from cache.local.stat_cache import StatCache

if TYPE_CHECKING:
    import pytest

    from cache.digest import FileHash

CONTENT = digests.of_bytes(b"content")  # of the fixture `file`
OTHER = digests.of_bytes(b"CONTENT")
LONG_AGO = 1_000_000_000_000_000_000


class Reads:
    """How often files were read since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sha256 = self.xxh3 = 0
        of_descriptor, xxh3_of_descriptor = digests.of_descriptor, digests.xxh3_of_descriptor

        def counted(descriptor: int) -> FileHash:
            self.sha256 += 1
            return of_descriptor(descriptor)

        def counted_xxh3(descriptor: int) -> bytes:
            self.xxh3 += 1
            return xxh3_of_descriptor(descriptor)

        monkeypatch.setattr(digests, "of_descriptor", counted)
        monkeypatch.setattr(digests, "xxh3_of_descriptor", counted_xxh3)

    def since(self) -> tuple[int, int]:
        """Return (sha256, xxh3) passes, and begin to count anew."""
        counts = self.sha256, self.xxh3
        self.sha256 = self.xxh3 = 0
        return counts


def again(cache: StatCache) -> StatCache:
    """Return the cache as the next process sees it."""
    cache.flush()
    return StatCache(cache._database._path)
