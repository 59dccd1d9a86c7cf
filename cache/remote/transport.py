"""What a server has to do for a `cache.remote.store.RemoteStore`: move bytes, and judge nothing.

Whatever comes back is untrusted; the RemoteStore verifies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cache.digest import Digest

SLOWEST = 64 << 10  # bytes a second: who gives less is not waited for
MAX_ENTRY_BYTES = 16 << 20  # of a result: more than a hundred thousand outputs


class Transport(Protocol):
    """One protocol to one server. Safe between threads.

    address: the server's URL, for messages. forks: whether a forked child may use it, too.
    write_once: whether an entry that is there should be kept. Every method may raise
    RemoteUnavailable, or Interrupted where trying again may help.
    """

    address: str
    forks: bool
    write_once: bool

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the server says it does not have."""
        ...

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on, as the server gives them.

        Raises:
            MissingBlob: the server does not have it.
            CorruptBlob: what it has is of another size.
        """
        ...

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file; `cache.streaming.send` reads it.

        Raises:
            CorruptBlob: the file holds something else, or so the server says.
        """
        ...

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, of `MAX_ENTRY_BYTES` at most, or None.

        Raises:
            CorruptBlob: it is larger.
        """
        ...

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        """Return what `get_entry` does for as many keys as that is cheaper for at once.

        Those that are left out have to be asked for one by one; no failure is told here.
        """
        ...

    def receive_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield those of the blobs that are cheaper to get with others, as the server gives them.

        Those that are left out have to be received one by one; no failure is told here.
        """
        ...

    def send_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        """Store those of the blobs that are cheaper to store with others; yield which are.

        read: returns a blob; what it raises is raised here. Those that are left out have to be
        sent one by one; no failure of the server is told here.
        """
        ...

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key; return whether that was done.

        replace: also where there is one. A server that is not `write_once` does so in any case.
        """
        ...

    def close(self) -> None:
        """Close idle connections; a later call opens new ones."""
        ...


class OneByOne:
    """What is done for many at once over a protocol whose requests are for one: nothing."""

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        """Return nothing: every result has a request of its own."""
        del keys
        return {}

    def receive_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield nothing: every blob has a request of its own."""
        del digests
        return iter(())

    def send_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        """Store nothing: every blob has a request of its own."""
        del digests, read
        return iter(())
