"""Stores and disks that fail at a chosen moment, for tests of what stands on them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

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

    inner: the store around which this is. failures: which operations fail, counted from 0. after:
    they take effect all the same, as when a server's answer is lost. calls: the names of the
    operations so far.
    """

    def __init__(
        self, store: Store, failures: Collection[int] = (), *, after: bool = False
    ) -> None:
        self.inner = store
        self._failures = failures
        self._after = after
        self.calls: list[str] = []

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Do as the store around which this is, or fail."""
        with self._operation("missing"):
            return self.inner.missing(digests)

    def read(self, digest: Digest) -> bytes:
        """Do as the store around which this is, or fail."""
        with self._operation("read"):
            return self.inner.read(digest)

    def write(self, data: bytes) -> Digest:
        """Do as the store around which this is, or fail."""
        with self._operation("write"):
            return self.inner.write(data)

    def download(self, digest: Digest, into: BinaryIO) -> None:
        """Do as the store around which this is, or fail."""
        with self._operation("download"):
            self.inner.download(digest, into)

    def upload(self, digest: Digest, source: BinaryIO) -> None:
        """Do as the store around which this is, or fail."""
        with self._operation("upload"):
            self.inner.upload(digest, source)

    def get_result(self, key: Digest) -> ActionResult | None:
        """Do as the store around which this is, or fail."""
        with self._operation("get_result"):
            return self.inner.get_result(key)

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Do as the store around which this is, or fail."""
        with self._operation("put_result"):
            self.inner.put_result(key, result)

    @contextlib.contextmanager
    def _operation(self, name: str) -> Iterator[None]:
        fails = len(self.calls) in self._failures
        self.calls.append(name)
        if fails and not self._after:
            raise StoreUnavailable(f"{name}: failed as asked to", "ask for no failure")
        yield
        if fails:
            raise StoreUnavailable(f"{name}: done, but failed as asked to", "ask for no failure")


@contextlib.contextmanager
def hooked_disk(
    hook: Callable[[int, str, tuple[Any, ...]], Any], *, calls: Collection[str] = DISK_CALLS
) -> Iterator[None]:
    """Call a hook before some system calls of this process.

    hook: gets the number of the call, counted from 0, its name in `os` and its arguments; it may
    raise in its place, or return the arguments to go on with. calls: the functions that count.
    """
    originals: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in calls}
    count = itertools.count()

    def hooked(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            return originals[name](*hook(next(count), name, arguments), **named)

        return call

    try:
        for name in calls:
            setattr(os, name, hooked(name))
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


@dataclass
class DiskCalls:
    """What `failing_disk` saw: the names of the calls so far, and whether one failed."""

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

    error: the errno it fails with. short: every `write` writes one byte less than it was asked
    to, where that leaves one.
    """
    seen = DiskCalls()

    def hook(number: int, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.names.append(name)
        if number == nth:
            seen.failed = True
            path = next((argument for argument in arguments if isinstance(argument, str)), None)
            raise OSError(error, os.strerror(error), path)
        if short and name == "write":
            return _shortened(arguments)
        return arguments

    with hooked_disk(hook, calls=calls):
        yield seen


@contextlib.contextmanager
def deadly_disk(nth: int, *, calls: Collection[str] = DISK_CALLS) -> Iterator[None]:
    """Let this process die (SIGKILL) just before the nth of some system calls.

    A `write` that comes before it has written only a part.
    """

    def hook(number: int, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if number == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == nth - 1 and name == "write":
            return _shortened(arguments)
        return arguments

    with hooked_disk(hook, calls=calls):
        yield


def _shortened(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    descriptor, data = arguments
    return descriptor, data[: max(len(data) - 1, 1)]
