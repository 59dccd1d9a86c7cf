"""Another attempt where it may help: bounded, with growing and random pauses.

What was interrupted goes on where it stopped: a blob of which a part has come is asked for from
there on.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from cache.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cache.digest import Digest
    from cache.remote.transport import Transport

T = TypeVar("T")

_LONGEST_WAIT = 30.0  # seconds: a server that asks for more is as good as gone
_PROGRESS = 1 << 20  # bytes that make an interrupted download a new one


@dataclass(frozen=True)
class Backoff:
    """When to try again.

    attempts: at most so many. first: seconds before the second attempt, doubled before each
    further one up to `longest`; the pause is random between half and all of that, so that many
    clients do not come back at once. sleep, chance: of this process; tests give their own.
    """

    attempts: int = 4
    first: float = 0.25
    longest: float = 8.0
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def pause(self, failed: int, error: Interrupted) -> None:
        """Wait after so many failed attempts; raises `error` if there is to be no further one."""
        if failed >= self.attempts or error.after > _LONGEST_WAIT:
            raise error
        pause = min(self.first * 2 ** (failed - 1), self.longest) * (0.5 + self.chance() / 2)
        self.sleep(max(pause, error.after))


class RetryingTransport:
    """A `Transport` that tries again what another one was interrupted in."""

    def __init__(self, transport: Transport, backoff: Backoff | None = None) -> None:
        self.inner = transport
        self.address = transport.address
        self.forks = transport.forks
        self.write_once = transport.write_once
        self._backoff = backoff or Backoff()

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the server says it does not have."""
        return self._again(lambda: self.inner.missing(digests))

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on, from as many answers as it takes."""
        failed, mark = 0, offset
        while True:
            try:
                for part in self.inner.receive(digest, offset):
                    offset += len(part)
                    yield part
            except Interrupted as error:
                failed = 1 if offset - mark >= _PROGRESS else failed + 1
                mark = offset
                self._backoff.pause(failed, error)
            else:
                return

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file."""
        self._again(lambda: self.inner.send(digest, source))

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        return self._again(lambda: self.inner.get_entry(key))

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        """Return the messages of those keys that come at once."""
        return self.inner.get_entries(keys)

    def receive_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield those of the blobs that come at once."""
        return self.inner.receive_many(digests)

    def send_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        """Store those of the blobs that go at once; yield which are stored."""
        return self.inner.send_many(digests, read)

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key; return whether that was done."""
        return self._again(lambda: self.inner.put_entry(key, entry, replace=replace))

    def close(self) -> None:
        """Close idle connections."""
        self.inner.close()

    def _again(self, operation: Callable[[], T]) -> T:
        failed = 0
        while True:
            try:
                return operation()
            except Interrupted as error:
                failed += 1
                self._backoff.pause(failed, error)
