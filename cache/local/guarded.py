"""Locks, temporary files and scratch directories that do not outlive their process.

Each is guarded by a kernel lock (flock), which ends with the process however it ends. So whoever
finds one that nobody holds may remove it. Two rules make that safe: what has been locked counts
only if its name still leads to it, and a name is removed only by the holder of its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GUARD = ".lock"


@contextlib.contextmanager
def lock(path: str) -> Iterator[None]:
    """Hold the exclusive lock named `path`, waiting for it; the name exists only while held.

    Not reentrant. Threads exclude each other as processes do.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _leads_to(path, descriptor):
                continue  # its last holder removed it while we waited
            try:
                yield
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108  a str, not a Path
            return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def gate(path: str, *, alone: bool = False) -> Iterator[None]:
    """Pass with others, or alone when nobody else is within; waits for that. The file stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary(directory: str, prefix: str = "") -> Iterator[tuple[int, str]]:
    """Yield an open, empty, writable file and its path; it goes unless it was renamed."""
    while True:
        path = f"{directory}/{prefix}{_name()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _leads_to(path, descriptor):
                continue  # swept between its creation and its lock
            try:
                yield descriptor, path
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108  a str, not a Path
            return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def scratch(directory: str) -> Iterator[str]:
    """Yield a new private directory, removed with all its content on exit."""
    path = f"{directory}/{_name()}"
    with lock(path + _GUARD):
        os.mkdir(path, 0o700)  # noqa: PTH102  a str, not a Path
        try:
            yield path
        finally:
            remove_tree(path)


def sweep(directory: str, prefix: str = "") -> None:
    """Remove what dead processes left in a directory of locks, temporaries and scratch.

    prefix: of the names that may be removed. What cannot be removed stays: it is in nobody's way.
    """
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(directory)):  # noqa: PTH208  a str, not a Path
            if name.startswith(prefix):
                with contextlib.suppress(OSError):
                    _sweep(f"{directory}/{name}")


def remove_tree(path: str) -> None:
    """Remove a directory and all in it, also where its own modes forbid that."""
    with contextlib.suppress(FileNotFoundError):
        for parent, directories, _ in os.walk(path):
            for directory in directories:
                child = f"{parent}/{directory}"
                if not os.path.islink(child):  # noqa: PTH114  a str, not a Path
                    os.chmod(child, 0o700)  # noqa: PTH101  a str, not a Path
        shutil.rmtree(path)


def _sweep(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        # Its guard is made before it and removed after it: without one it is nobody's.
        if not os.path.lexists(path + _GUARD):
            remove_tree(path)
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError:  # read-only already; some network file systems lock only what is not
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _leads_to(path, descriptor):
            if path.endswith(_GUARD):
                remove_tree(path.removesuffix(_GUARD))
            os.unlink(path)  # noqa: PTH108  a str, not a Path
    finally:
        os.close(descriptor)


def _leads_to(path: str, descriptor: int) -> bool:
    """Return whether a path still names an open file."""
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _name() -> str:
    return os.urandom(8).hex()
