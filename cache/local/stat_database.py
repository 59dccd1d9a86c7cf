"""Where the stat cache sleeps between runs: one SQLite file that may be lost at any time.

Everything in it can be computed again, so no failure of it is an error: a damaged file is
replaced by an empty one, a full or read-only disk means that nothing is remembered. Each value
carries a checksum over itself and its key: a flipped bit makes it absent, never wrong.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, TypeVar

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Inode = tuple[int, int]  # st_dev, st_ino

_SCHEMA_VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS state
    (dev INTEGER, ino INTEGER, value BLOB, checked INTEGER, PRIMARY KEY (dev, ino)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memo
    (name TEXT, hash TEXT, value BLOB, PRIMARY KEY (name, hash)) WITHOUT ROWID;
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""
_MAX_BYTES = 64 << 20  # half a million files; beyond it the rows not checked for longest go
_LOCK_SECONDS = 10.0
_CHECK_BYTES = 8
_DAMAGED = frozenset((sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
# A message of SQLite may quote damaged text, which Python then fails to decode.
_FAILURES = (sqlite3.Error, UnicodeDecodeError)

_T = TypeVar("_T")


class StatDatabase:
    """Values by inode, and small values by name and content hash, on disk.

    Safe between processes, and between threads. A fork must happen between `hold` and `release`,
    and the child must call `abandon` instead.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._broken = False

    def preload(self, limit: int) -> tuple[dict[Inode, bytes], bool]:
        """Return the values by inode, up to a number of them, and whether these are all.

        Those of the rare inodes beyond 2^63 are not to be found in it, only by `get`.
        """

        def read(connection: sqlite3.Connection) -> dict[Inode, bytes]:
            rows = connection.execute("SELECT dev, ino, value FROM state LIMIT ?", (limit + 1,))
            return {(dev, ino): value for dev, ino, value in rows}

        values: dict[Inode, bytes] = self._attempt(read, {}, create=False)
        return values, len(values) <= limit

    def get(self, inode: Inode) -> bytes | None:
        """Return the value stored for an inode."""

        def read(connection: sqlite3.Connection) -> bytes | None:
            query = "SELECT value FROM state WHERE dev = ? AND ino = ?"
            row = connection.execute(query, _signed(inode)).fetchone()
            return row[0] if row else None

        return self._attempt(read, None, create=False)

    def memo(self, name: str, content: str) -> bytes | None:
        """Return the value remembered under a name for a content hash."""

        def read(connection: sqlite3.Connection) -> bytes | None:
            query = "SELECT value FROM memo WHERE name = ? AND hash = ?"
            row = connection.execute(query, (name, content)).fetchone()
            return row[0] if row else None

        return opened(self._attempt(read, None, create=False), f"{name}\0{content}")

    def save(
        self,
        states: Mapping[Inode, tuple[bytes, int]],
        memos: Mapping[tuple[str, str], bytes],
    ) -> None:
        """Write values by inode, each with the time it was checked, and memos, in one step."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT OR REPLACE INTO state (dev, ino, value, checked) VALUES (?, ?, ?, ?)",
                    [(*_signed(inode), *state) for inode, state in states.items()],
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO memo (name, hash, value) VALUES (?, ?, ?)",
                    [
                        (name, content, sealed(value, f"{name}\0{content}"))
                        for (name, content), value in memos.items()
                    ],
                )
                _prune(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(*_FAILURES):
                    connection.execute("ROLLBACK")
                raise

        if states or memos:
            self._attempt(write, None, create=True)

    def close(self) -> None:
        """Give the file handle back; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def hold(self) -> None:
        """Wait until no other thread is in a transaction, and let none begin one."""
        self._lock.acquire()

    def release(self) -> None:
        """Undo `hold`."""
        self._lock.release()

    def abandon(self) -> None:
        """Leave the connection to the parent process: SQLite forbids to use it here."""
        if self._connection is not None:
            _PARENTS_CONNECTIONS.append(self._connection)
        self._connection = None
        self._lock = threading.RLock()

    def _attempt(
        self, action: Callable[[sqlite3.Connection], _T], fallback: _T, *, create: bool
    ) -> _T:
        """Run an action on the database; replace the file once if it turns out damaged."""
        with self._lock:
            for _ in range(2):
                if self._broken:
                    break
                try:
                    connection = self._open(create=create)
                    return fallback if connection is None else action(connection)
                except _FAILURES as error:
                    self._recover(error)
                except OSError:
                    self._broken = True
        return fallback

    def _open(self, *, create: bool) -> sqlite3.Connection | None:
        if self._connection is None:
            if not create and not os.path.exists(self._path):  # noqa: PTH110  a str, not a Path
                return None
            os.makedirs(os.path.dirname(self._path), exist_ok=True)  # noqa: PTH103, PTH120  same
            connection = sqlite3.connect(
                self._path,
                timeout=_LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # the lock lets one thread in at a time
            )
            self._connection = connection
            connection.text_factory = bytes
            # After a power cut rows may be lost or damaged: checksums and rehashing cover that.
            connection.execute("PRAGMA synchronous = OFF")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(_SCHEMA)
            elif version != _SCHEMA_VERSION:
                raise sqlite3.DatabaseError("another schema")
        return self._connection

    def _recover(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        with contextlib.suppress(*_FAILURES):
            self.close()
        self._connection = None
        if code not in _DAMAGED:
            self._broken = True
            return
        try:
            for suffix in ("-journal", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)  # noqa: PTH108  a str, not a Path
        except OSError:
            self._broken = True


def sealed(value: bytes, key: str) -> bytes:
    """Return a value with its checksum, bound to its key."""
    return xxhash.xxh3_64_digest(key.encode() + b"\0" + value) + value


def opened(value: object, key: str) -> bytes | None:
    """Return what `sealed` sealed, or None if that is not what it was."""
    if not isinstance(value, bytes) or sealed(value[_CHECK_BYTES:], key) != value:
        return None
    return value[_CHECK_BYTES:]


def _signed(inode: Inode) -> Inode:
    """Return the two numbers as SQLite's signed 64-bit integers."""
    dev, ino = inode
    return (dev + (1 << 63)) % (1 << 64) - (1 << 63), (ino + (1 << 63)) % (1 << 64) - (1 << 63)


def _prune(connection: sqlite3.Connection) -> None:
    sizes = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    ]
    if sizes[0] * (sizes[1] - sizes[2]) > _MAX_BYTES:
        connection.execute(
            "DELETE FROM state WHERE checked <= (SELECT checked FROM state ORDER BY checked"
            " LIMIT 1 OFFSET (SELECT count(*) / 2 FROM state))"
        )
        connection.execute("DELETE FROM memo")


_PARENTS_CONNECTIONS: list[sqlite3.Connection] = []
