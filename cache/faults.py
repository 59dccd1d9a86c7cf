"""Stores and disks that fail at a chosen moment, for tests of what stands on them."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cache.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from cache.action import ActionResult
    from cache.digest import Digest
    from cache.store import Store

# The system calls of the package that a full, read-only or broken disk can refuse.
DISK_CALLS = (
    "chmod",
    "fchmod",
    "fsync",
    "link",
    "listdir",
    "mkdir",
    "open",
    "preadv",
    "read",
    "replace",
    "rmdir",
    "unlink",
    "write",
)


class FaultyStore:
    """A `Store` around another one that fails at chosen operations.

    failures: which operations fail, counted from 0. after: they take effect all the same, as
    when a server's answer is lost. calls: the names of the operations so far.
    """

    def __init__(
        self, store: Store, failures: Collection[int] = (), *, after: bool = False
    ) -> None:
        self._store = store
        self._failures = failures
        self._after = after
        self.calls: list[str] = []

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Do as the store around which this is, or fail."""
        with self._operation("missing"):
            return self._store.missing(digests)

    def read(self, digest: Digest) -> bytes:
        """Do as the store around which this is, or fail."""
        with self._operation("read"):
            return self._store.read(digest)

    def write(self, data: bytes) -> Digest:
        """Do as the store around which this is, or fail."""
        with self._operation("write"):
            return self._store.write(data)

    def get_result(self, key: Digest) -> ActionResult | None:
        """Do as the store around which this is, or fail."""
        with self._operation("get_result"):
            return self._store.get_result(key)

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Do as the store around which this is, or fail."""
        with self._operation("put_result"):
            self._store.put_result(key, result)

    @contextlib.contextmanager
    def _operation(self, name: str) -> Iterator[None]:
        fails = len(self.calls) in self._failures
        self.calls.append(name)
        if fails and not self._after:
            raise StoreUnavailable(f"{name}: failed as asked to", "ask for no failure")
        yield
        if fails:
            raise StoreUnavailable(f"{name}: done, but failed as asked to", "ask for no failure")


@dataclass
class DiskCalls:
    """What `failing_disk` saw: the system calls so far, and whether one was made to fail."""

    names: list[str] = field(default_factory=list)
    failed: bool = False


@contextlib.contextmanager
def failing_disk(
    nth: int | None = None,
    *,
    error: int = errno.ENOSPC,
    calls: Collection[str] = DISK_CALLS,
    short: bool = False,
) -> Iterator[DiskCalls]:
    """Let the nth of some system calls of this process fail, counted from 0; None for no one.

    error: the errno it fails with. calls: the functions of `os` that count. short: before the
    failing call, every `write` writes one byte less than asked, where that leaves one.
    """
    seen = DiskCalls()
    originals: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in calls}

    def faulty(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            number = len(seen.names)
            seen.names.append(name)
            if number == nth:
                seen.failed = True
                path = next((a for a in arguments if isinstance(a, str)), None)
                raise OSError(error, os.strerror(error), path)
            if short and name == "write" and len(arguments[1]) > 1:
                return originals[name](arguments[0], arguments[1][:-1])
            return originals[name](*arguments, **named)

        return call

    try:
        for name in calls:
            setattr(os, name, faulty(name))
        yield seen
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
