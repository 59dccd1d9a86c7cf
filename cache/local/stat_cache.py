"""Which file holds which content, without reading it again.

A file whose (device, inode, size, mtime, ctime) are those recorded holds what was recorded: ctime
cannot be set back by a program, so even a write that restores the mtime is noticed. Two writes
within one tick of the file system's clock leave the same ctime; a record made that soon after
the last change is *racy* and is not believed, but checked with xxh3.
"""

from __future__ import annotations

import atexit
import errno
import os
import stat
import struct
import threading
import time
import weakref
from typing import NamedTuple

import xxhash

from cache import digest as digests
from cache.digest import Digest, FileHash
from cache.errors import CacheError
from cache.local.stat_database import Inode, StatDatabase

_TICK_NS = 20_000_000  # two jiffies at the slowest common rate (100 Hz)
_COARSE_TICK_NS = 2_000_000_000  # file systems that keep whole seconds; FAT keeps even ones
_SIGNED_LIMIT = 1 << 63  # nanoseconds reach it in the year 2262; a file may claim to be later
_ATTEMPTS = 10
_SAVE_EVERY = 2048
_STRIPES = 64
_CHECK_BYTES = 8
_PRELOAD = 8192  # rows that are read at first, all at once
_MORE = 16  # how many times as many are read when that was not enough,
_ONE_BY_ONE = 8  # and one for each eighth of them was asked for: that costs five times as much
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_STATE = struct.Struct("<QQqqqq16s32s")

FilePath = str | os.PathLike[str]


class _Row(NamedTuple):
    """What a file was when it was last read, and what it held."""

    size: int
    mtime_ns: int
    ctime_ns: int
    checked_ns: int  # the clock before reading began
    xxh3: bytes
    hash: str


class StatCache:
    """Digests of local files, remembered in an SQLite file at `path`.

    Symlinks are followed: the content counts. Safe between threads, processes and forks. Records
    are written in batches, on `flush`, and when the process ends in order, but not when the
    object is dropped; losing them costs a reading of the files and nothing else.
    """

    def __init__(self, path: FilePath) -> None:
        self._database = StatDatabase(os.path.abspath(path))  # noqa: PTH100  a str is wanted
        self._stored: dict[Inode, bytes] | None = None  # rows as on disk, not yet looked at
        self._complete = False
        self._limit = _PRELOAD
        self._loads = 0
        self._rows: dict[Inode, _Row] = {}
        self._doubted: set[Inode] = set()  # what is on disk of them is what was believed
        self._unsaved: dict[Inode, _Row] = {}
        self._memos: dict[tuple[str, str], bytes] = {}
        self._unsaved_memos: dict[tuple[str, str], bytes] = {}
        self._asked: dict[tuple[str, str], Digest] = {}
        self._lock = threading.RLock()
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        _CACHES.add(self)
        # The garbage collector may come in the middle of another cache's transaction, and would
        # wait there for its end: it may close the database, but not write to it.
        weakref.finalize(self, self._database.close).atexit = False

    def digest(self, path: FilePath) -> Digest:
        """Return the digest of a file's content, reading the file only if it may have changed.

        Raises:
            OSError: the file cannot be read.
            CacheError: it is no regular file, or it keeps changing while it is read.
        """
        status = os.stat(path)  # noqa: PTH116  a Path object per call would cost more than the call
        row = self._fresh(status) or self._read(path)
        return Digest(row.hash, row.size)

    def matches(self, path: FilePath, digest: Digest) -> bool:
        """Return whether there is a regular file at `path` with this content.

        Raises:
            OSError: there is one of the right size, and it cannot be read.
            CacheError: it keeps changing while it is read.
        """
        try:
            status = os.stat(path)  # noqa: PTH116  as above
            if status.st_size != digest.size or not stat.S_ISREG(status.st_mode):
                return False
            row = self._fresh(status) or self._read(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        return row.hash == digest.hash and row.size == digest.size

    def record(self, path: FilePath, digest: Digest) -> None:
        """Accept the new ctime of a file whose content we know and to which we just made a link.

        Reads nothing. Whatever else changed beside the ctime, or an unknown file, is left for
        the next `digest` or `matches` to find out.
        """
        status = os.stat(path)  # noqa: PTH116  as above
        row = self._known(_inode(status))
        if (
            row is not None
            and (row.size, row.mtime_ns) == (status.st_size, status.st_mtime_ns)
            and (row.hash, row.size) == (digest.hash, digest.size)
        ):
            self._set(status, row._replace(ctime_ns=status.st_ctime_ns, checked_ns=time.time_ns()))

    def learn(self, status: os.stat_result, hashed: FileHash, checked_ns: int) -> None:
        """Remember what a file holds that the caller has hashed itself.

        status: of the open file, after it was hashed. checked_ns: `time.time_ns()` before.
        """
        if hashed.digest.size == status.st_size:
            self._set(status, _row(status, checked_ns, hashed.xxh3, hashed.digest.hash))

    def peek(self, path: FilePath) -> Digest | None:
        """Return the digest of a file if that is known without reading it."""
        row = self._fresh(os.stat(path))  # noqa: PTH116  as above
        return None if row is None else Digest(row.hash, row.size)

    def doubt(self, path: FilePath) -> None:
        """Have the file, if it is there, read before anything is said about it again."""
        try:
            status = os.stat(path)  # noqa: PTH116  as above
        except FileNotFoundError:
            return
        row = self._known(_inode(status))
        if row is not None:
            self._set(status, row._replace(checked_ns=row.ctime_ns))
            self._doubted.add(_inode(status))

    def memo_get(self, key: str, path: FilePath) -> bytes | None:
        """Return what `memo_put` remembered under `key` for the present content of a file.

        Raises:
            OSError: the file cannot be read.
        """
        digest = self.digest(path)
        self._asked[key, os.fspath(path)] = digest
        name = (key, digest.hash)
        value = self._memos.get(name)
        if value is None:
            value = self._database.memo(*name)
            if value is not None:
                self._memos[name] = value
        return value

    def memo_put(self, key: str, path: FilePath, value: bytes) -> None:
        """Remember a small value that follows from `key` and a file's content alone.

        After a `memo_get` of the same key and path, the value counts for the content of that
        time: if the file has changed since, nothing is remembered.

        Raises:
            OSError: the file cannot be read.
        """
        digest = self.digest(path)
        if self._asked.pop((key, os.fspath(path)), digest) != digest:
            return
        with self._lock:
            self._memos[key, digest.hash] = self._unsaved_memos[key, digest.hash] = value

    def flush(self) -> None:
        """Write what is not yet on disk; a disk that refuses is no error."""
        with self._lock:
            states = {
                inode: (_pack(inode, row), row.checked_ns) for inode, row in self._unsaved.items()
            }
            self._database.save(states, self._unsaved_memos)
            self._unsaved.clear()
            self._unsaved_memos.clear()

    def close(self) -> None:
        """Flush, and close the database; a later use opens it again."""
        with self._lock:
            self.flush()
            self._database.close()

    def _fresh(self, status: os.stat_result) -> _Row | None:
        """Return what is known of a file if its status proves that it is unchanged."""
        inode = (status.st_dev, status.st_ino)
        row = self._rows.get(inode) or self._known(inode)
        if row is None:
            return None
        if not _proves(status, row):
            if inode in self._doubted:
                return None
            row = self._load(inode)  # another process may have looked since
            if row is None or not _proves(status, row):
                return None
            self._rows[inode] = row
        return row

    def _known(self, inode: Inode) -> _Row | None:
        row = self._rows.get(inode)
        if row is None:
            if self._stored is None:
                self._preload()
            stored = None if self._stored is None else self._stored.get(inode)
            if stored is not None:
                return _unpack(inode, stored)  # mostly asked for once, and it takes more memory
            if not self._complete or max(inode) >= _SIGNED_LIMIT:
                row = self._load(inode)
            if row is not None:
                self._rows[inode] = row
        return row

    def _preload(self) -> None:
        with self._lock:
            self._stored, self._complete = self._database.preload(self._limit)

    def _load(self, inode: Inode) -> _Row | None:
        self._loads += 1
        if not self._complete and self._loads * _ONE_BY_ONE > self._limit:
            self._limit *= _MORE
            self._preload()
        stored = self._database.get(inode)
        return None if stored is None else _unpack(inode, stored)

    def _read(self, path: FilePath) -> _Row:
        """Read a file and remember it; a file that another thread reads is waited for."""
        for _ in range(_ATTEMPTS):
            # Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise CacheError(f"{os.fspath(path)}: not a regular file", "name a file")
                with self._stripes[hash(_inode(status)) % _STRIPES]:
                    row = self._fresh(status) or self._hash(descriptor, status)
            finally:
                os.close(descriptor)
            if row is not None:
                return row
        raise digests.changing(path)

    def _hash(self, descriptor: int, status: os.stat_result) -> _Row | None:
        """Return and remember what an open file holds, or None if it changed meanwhile."""
        known = self._known(_inode(status))
        checked_ns = time.time_ns()
        row: _Row | None = None
        if known is not None and known.size == status.st_size:
            xxh3 = digests.xxh3_of_descriptor(descriptor)
            if xxh3 == known.xxh3:
                row = _row(status, checked_ns, xxh3, known.hash)
        if row is None:
            hashed = digests.of_descriptor(descriptor)
            if hashed.digest.size != status.st_size:
                return None
            row = _row(status, checked_ns, hashed.xxh3, hashed.digest.hash)
        if not _same_state(os.fstat(descriptor), status):
            return None
        self._set(status, row)
        return row

    def _set(self, status: os.stat_result, row: _Row) -> None:
        inode = _inode(status)
        with self._lock:
            self._rows[inode] = row
            if abs(row.mtime_ns) < _SIGNED_LIMIT:
                self._unsaved[inode] = row
            if len(self._unsaved) >= _SAVE_EVERY:
                self.flush()

    def _begin_anew(self) -> None:
        """In a child: what is unsaved is the parent's to save, and its locks are not ours."""
        self._database.abandon()
        self._lock = threading.RLock()
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._unsaved.clear()
        self._unsaved_memos.clear()


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _proves(status: os.stat_result, row: _Row) -> bool:
    """Return whether a file with this status must hold what the row says."""
    ctime_ns = row.ctime_ns
    return (
        status.st_ctime_ns == ctime_ns
        and status.st_mtime_ns == row.mtime_ns
        and status.st_size == row.size
        and row.checked_ns - ctime_ns >= (_TICK_NS if ctime_ns % 1_000_000_000 else _COARSE_TICK_NS)
    )


def _same_state(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
    )


def _row(status: os.stat_result, checked_ns: int, xxh3: bytes, sha256: str) -> _Row:
    return _Row(status.st_size, status.st_mtime_ns, status.st_ctime_ns, checked_ns, xxh3, sha256)


def _pack(inode: Inode, row: _Row) -> bytes:
    """Return a row with its inode and a checksum over both."""
    state = _STATE.pack(*inode, *row[:5], bytes.fromhex(row.hash))
    return xxhash.xxh3_64_digest(state) + state


def _unpack(inode: Inode, stored: object) -> _Row | None:
    """Return the row that was packed for an inode, or None if these are not its bytes."""
    if not isinstance(stored, bytes) or len(stored) != _CHECK_BYTES + _STATE.size:
        return None
    state = stored[_CHECK_BYTES:]
    if not stored.startswith(xxhash.xxh3_64_digest(state)):
        return None
    dev, ino, size, mtime_ns, ctime_ns, checked_ns, xxh3, sha256 = _STATE.unpack(state)
    if (dev, ino) != inode:
        return None
    return _Row(size, mtime_ns, ctime_ns, checked_ns, xxh3, sha256.hex())


def _close_all() -> None:
    for cache in list(_CACHES):
        cache.close()


def _before_fork() -> None:
    _FORKING.extend(_CACHES)
    for cache in _FORKING:
        cache._database.hold()  # noqa: SLF001  the class's own hooks, here and below


def _after_fork_in_parent() -> None:
    for cache in _FORKING:
        cache._database.release()  # noqa: SLF001  (a part of this module)
    _FORKING.clear()


def _after_fork_in_child() -> None:
    for cache in _FORKING:
        cache._begin_anew()  # noqa: SLF001  (a part of this module)
    _FORKING.clear()


_CACHES: weakref.WeakSet[StatCache] = weakref.WeakSet()
_FORKING: list[StatCache] = []
atexit.register(_close_all)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
