"""The store in a directory of this machine, shared by all its processes.

Whatever has a name in the CAS or the action cache is complete: it is made in tmp/ and then gets
its name in one step. Every operation may be cut off at any moment by a crash. `cache.local.layout` says
where things are, docs/store.md what holds after what.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import xxhash

from cache import digest as digests
from cache import sealing, streaming
from cache.digest import FileHash
from cache.errors import CacheError, CorruptBlob, MissingBlob, unavailable
from cache.local import copying, guarded, leases, linking
from cache.local.layout import FILE_MODE, Layout, make_directory, parent, publish_over
from cache.local.leases import Leases
from cache.local.stat_cache import StatCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cache.action import ActionResult
    from cache.digest import Digest

_MAX_RESULT_BYTES = 64 << 20  # half a million outputs
_ATTEMPTS = 10
_COPY_PREFIX = ".olmill-"
_REBUILD = "run the same command again: what made it will be done again"


class LocalStore:
    """A `Store` in a directory, made on the first write.

    root: any directory on a file system with locks; hard links out of the store need `root` on
    the same file system. stat: the stat cache of the store, for any local file. Safe between
    threads and processes.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100  symlinks stay as they are
        self._layout = Layout(str(self.root))
        self.stat = StatCache(self._layout.stat)
        self._lease = Leases(self._layout)

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the digests whose blobs the store does not hold intact."""
        self._layout.sweep_once()
        wanted = set(digests)
        self._lease.name(digest.hash for digest in wanted)
        return {digest for digest in wanted if not self._holds(digest)}

    def contains(self, digest: Digest) -> bool:
        """Return whether the blob is here, intact; a corrupt one is moved out of the CAS.

        The content is read only if the stat cache cannot vouch for it.
        """
        return not self.missing((digest,))

    def recheck(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return what `missing` does, from reading the blobs again."""
        wanted = set(digests)
        for digest in wanted:
            self.stat.doubt(self._layout.blob(digest))
        return self.missing(wanted)

    def blob_path(self, digest: Digest) -> Path:
        """Return where the blob is, verified; the file must never be written to.

        Raises:
            MissingBlob: the store does not hold it, or held something else in its place.
        """
        if not self.contains(digest):
            raise _missing(digest)
        return Path(self._layout.blob(digest))

    def read(self, digest: Digest) -> bytes:
        """Return a blob, read and verified; MissingBlob or CorruptBlob if there is none."""
        self._layout.sweep_once()
        path = self._layout.blob(digest)
        try:
            data = copying.read(path, digest.size, digest.size)
            if data is not None and digests.of_bytes(data) == digest:
                return data
            self.stat.doubt(path)
            self._evict(digest)
        except FileNotFoundError:
            raise _missing(digest) from None
        except OSError as error:
            raise unavailable(error, path) from error
        raise CorruptBlob(f"blob {digest} was damaged and has been put aside", _REBUILD)

    def write(self, data: bytes) -> Digest:
        """Store a blob and return its digest."""
        digest = digests.of_bytes(data)
        if not self.contains(digest):
            hashed = FileHash(digest, xxhash.xxh3_128_digest(data))
            with self._layout.writing(), self._layout.temporary() as (descriptor, path):
                checked_ns = time.time_ns()
                copying.write(descriptor, data)
                self._seal(descriptor, hashed, checked_ns)
                self._publish(path, digest)
            self._record(digest)
        return digest

    def download(self, digest: Digest, into: BinaryIO) -> None:
        """Replace the content of an open file by a blob, verified."""
        path = self.blob_path(digest)
        try:
            with path.open("rb") as source:
                streaming.receive(iter(lambda: source.read(digests.CHUNK), b""), digest, into)
        except CorruptBlob:
            self.stat.doubt(path)
            self._evict(digest)
            raise
        except FileNotFoundError:  # put aside or collected since
            raise _missing(digest) from None

    def upload(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob that is all of an open file's content."""
        self.receive(digest, lambda file: file.writelines(streaming.send(source, digest)))

    def receive(self, digest: Digest, fill: Callable[[BinaryIO], None]) -> None:
        """Store a blob that `fill` writes to an open file; nothing if it raises.

        fill: verifies what it writes, as `Store.download` does.
        """
        with self._layout.writing(), self._layout.temporary() as (descriptor, path):
            checked_ns = time.time_ns()
            with open(descriptor, "wb", closefd=False) as file:
                fill(file)
            hashed = FileHash(digest, digests.xxh3_of_descriptor(descriptor))
            self._seal(descriptor, hashed, checked_ns)
            self._publish(path, digest)
        self._record(digest)

    def put_file(self, path: Path, *, consume: bool) -> Digest:
        """Store the content of a file, durably, and return its digest.

        consume: the file itself becomes the blob where possible, and is gone afterwards in any
        case; otherwise it stays as it is.

        Raises:
            CacheError: the file cannot be read, is no regular file, or changes meanwhile.
        """
        name = os.path.abspath(path)  # noqa: PTH100  symlinks stay as they are
        try:
            status = os.lstat(name)
            known = None if consume else self.stat.peek(name)
            source = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            hint = "make sure that the file is there and may be read"
            raise CacheError(f"{name}: {error.strerror}", hint) from error
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise CacheError(f"{name}: not a regular file", "only files can be stored")
            with self._layout.writing():
                if consume and self._movable(status):
                    digest = self._move(name, source)
                elif known is not None and self.contains(known):
                    digest = known
                else:
                    digest = self._copy_in(name, source)
                if consume:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name)  # noqa: PTH108  a str, not a Path
        finally:
            os.close(source)
        self._record(digest)
        return digest

    def materialise(self, digest: Digest, destination: Path) -> None:
        """Put a blob's content at a path, read-only, in one step, replacing a file there.

        A hard link where possible, else shared extents, else a copy: nobody may write to it.

        Raises:
            MissingBlob: the store does not hold the blob.
            CacheError: the destination is a directory.
        """
        blob = str(self.blob_path(digest))
        target = os.path.abspath(destination)  # noqa: PTH100  symlinks stay as they are
        try:
            os.makedirs(parent(target), exist_ok=True)  # noqa: PTH103  a str, not a Path
            if not self._link(digest, blob, target):
                self._copy_out(digest, blob, target)
        except IsADirectoryError:
            hint = "move it away: a file is to be there"
            raise CacheError(f"{target}: is a directory", hint) from None
        except OSError as error:
            if not os.path.lexists(blob):
                raise _missing(digest) from None
            raise unavailable(error, target, store=False) from error

    def get_result(self, key: Digest) -> ActionResult | None:
        """Return the result of an action, or None if there is no complete one."""
        return self.get_results([key]).get(key)

    def get_results(self, keys: Iterable[Digest]) -> dict[Digest, ActionResult]:
        """Return the complete results of actions by key; a blob that several name is looked at once."""
        self._layout.sweep_once()
        wanted = list(keys)
        used = self._lease.name(key.hash for key in wanted)
        found = {key: result for key in wanted if (result := self._entry(key)) is not None}
        named = (digest for result in found.values() for digest in result.outputs.values())
        if missing := self.missing(named):
            found = {
                key: result
                for key, result in found.items()
                if missing.isdisjoint(result.outputs.values())
            }
        for key in found if used else ():
            if key.hash in used:  # what has not been used for longest is collected first
                with contextlib.suppress(OSError):
                    os.utime(self._layout.result(key))
        return found

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Remember the result of an action, durably; MissingBlob if an output's blob is missing.

        The outputs are on disk before the entry is, and the entry before this returns.
        """
        entry = sealing.seal(key, result)
        self._lease.name((key.hash,))
        outputs = set(result.outputs.values())
        if missing := self.missing(outputs):
            raise _missing(min(missing))
        blobs = sorted(map(self._layout.blob, outputs))
        target = self._layout.result(key)
        with self._layout.writing(), self._layout.temporary() as (descriptor, path):
            for blob in (*blobs, *sorted(set(map(parent, blobs)))):
                copying.sync(blob)
            copying.write(descriptor, entry)
            os.fchmod(descriptor, FILE_MODE)
            os.fsync(descriptor)
            make_directory(parent(target))
            publish_over(path, target)
            copying.sync(parent(target))

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which no collection takes what is said to be here, or is stored.

        In it, a result that is found counts as used. Forked children hold the lease, too.
        """
        return self._lease.held()

    def register(self, project: Path) -> None:
        """Have a project's directory known to collections, to ask what it needs."""
        leases.register(self._layout, project)

    def projects(self) -> list[Path]:
        """Return the registered directories of projects that are there."""
        return leases.registered(self._layout)

    @contextlib.contextmanager
    def lock(self, key: Digest) -> Iterator[None]:
        """Hold the lock of an action against all threads and processes; waits for it."""
        with contextlib.ExitStack() as held:
            with self._layout.writing():
                held.enter_context(guarded.lock(f"{self._layout.locks}/{key.hash}"))
            yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a private directory on the store's file system, removed on exit."""
        with contextlib.ExitStack() as held:
            with self._layout.writing():
                path = held.enter_context(guarded.scratch(self._layout.temporaries))
            yield Path(path)

    def _entry(self, key: Digest) -> ActionResult | None:
        """Return what the entry of an action says, None without one that can be used."""
        path = self._layout.result(key)
        try:
            entry = copying.read(path, 0, _MAX_RESULT_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unavailable(error, path) from error
        try:
            return None if entry is None else sealing.unseal(key, entry)
        except CacheError:
            return None

    def _holds(self, digest: Digest) -> bool:
        """Return whether a blob is here, intact; a corrupt one is moved out of the CAS."""
        path = self._layout.blob(digest)
        try:
            if self.stat.matches(path, digest):
                return True
            if os.path.lexists(path):
                self._evict(digest)
        except OSError as error:
            raise unavailable(error, path) from error
        return False

    def _movable(self, status: os.stat_result) -> bool:
        """Return whether a file may become a blob: nobody else has it or can come to have it."""
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_nlink == 1
            and status.st_uid == os.geteuid()
            and status.st_dev == os.lstat(self._layout.temporaries).st_dev
        )

    def _move(self, name: str, source: int) -> Digest:
        """Make a file, open as `source`, a blob under its own inode."""
        os.fchmod(source, FILE_MODE)
        digest = self.stat.digest(name)
        if not self.contains(digest):
            os.fsync(source)
            self._publish(name, digest)
        return digest

    def _copy_in(self, name: str, source: int) -> Digest:
        """Make a copy of a file, open as `source`, a blob."""
        for _ in range(_ATTEMPTS):
            before = os.fstat(source)
            with self._layout.temporary() as (descriptor, path):
                checked_ns = time.time_ns()
                hashed = copying.copy(source, descriptor)
                after = os.fstat(source)
                if (hashed.digest.size, before.st_mtime_ns, before.st_ctime_ns) != (
                    before.st_size,
                    after.st_mtime_ns,
                    after.st_ctime_ns,
                ):
                    continue
                self._seal(descriptor, hashed, checked_ns)
                os.fsync(descriptor)
                self._publish(path, hashed.digest)
            self.stat.learn(before, hashed, checked_ns)
            return hashed.digest
        raise digests.changing(name)

    def _seal(self, descriptor: int, hashed: FileHash, checked_ns: int) -> None:
        """Make a temporary file read-only, and remember what it holds."""
        os.fchmod(descriptor, FILE_MODE)
        self.stat.learn(os.fstat(descriptor), hashed, checked_ns)

    def _publish(self, path: str, digest: Digest) -> None:
        """Give a finished file its name in the CAS, unless an intact blob has it already."""
        self._lease.name((digest.hash,))
        blob = self._layout.blob(digest)
        make_directory(parent(blob))
        for _ in range(_ATTEMPTS):
            try:
                os.link(path, blob)
            except FileExistsError:
                if self.contains(digest):
                    return
            except OSError as error:
                if error.errno not in linking.IMPOSSIBLE:
                    raise
                publish_over(path, blob)
                return
            else:
                return
        raise OSError(errno.EEXIST, "a damaged blob cannot be put aside", blob)

    def _record(self, digest: Digest) -> None:
        """Accept the change time that our own linking gave a blob."""
        with contextlib.suppress(FileNotFoundError):
            self.stat.record(self._layout.blob(digest), digest)

    def _evict(self, digest: Digest) -> None:
        """Move a blob that is not what its name says out of the CAS, if the disk lets us."""
        blob = self._layout.blob(digest)
        with contextlib.suppress(OSError):
            self._layout.prepare()
            # Two that found the same corrupt blob must not evict its replacement.
            with guarded.lock(f"{self._layout.locks}/evict"):
                if os.path.lexists(blob) and not self.stat.matches(blob, digest):
                    make_directory(self._layout.corrupt)
                    publish_over(blob, f"{self._layout.corrupt}/{digest.hash}")

    def _link(self, digest: Digest, blob: str, target: str) -> bool:
        """Return whether the target is now a hard link to a blob."""
        if not linking.link(self._layout, blob, target):
            return False
        self._record(digest)
        return True

    def _copy_out(self, digest: Digest, blob: str, target: str) -> None:
        """Make the target a read-only copy of a blob."""
        guarded.sweep(parent(target), _COPY_PREFIX)
        source = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with guarded.temporary(parent(target), _COPY_PREFIX) as (descriptor, path):
                checked_ns = time.time_ns()
                hashed = copying.copy(source, descriptor)
                if hashed.digest != digest:
                    self.stat.doubt(blob)
                    self._evict(digest)
                    raise _missing(digest)
                self._seal(descriptor, hashed, checked_ns)
                publish_over(path, target)
        finally:
            os.close(source)
        self.stat.record(target, digest)


def _missing(digest: Digest) -> MissingBlob:
    return MissingBlob(f"blob {digest} is not in the store", _REBUILD)
