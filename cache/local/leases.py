"""What a running build was told is in the store stays there: leases, and who else uses the store.

A lease is a file that its holder keeps locked (flock) and writes the names of blobs and results to
*before* it looks for them or stores them. What is named in a lease is not collected, so whatever
the holder then finds it will find again. Writing a name and the collector's looking for names and
removing what has none exclude each other (the gate). A lease that ends while a collection is under
way leaves its names to it, which knows the store from before.

Projects are registered: what their receipts name is not collected either. What a receipt is, the
caller of the collection says.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cache.errors import unavailable
from cache.local import copying, guarded
from cache.local.layout import make_directory, publish_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cache.local.layout import Layout


class Leases:
    """The lease of this process on a store, if it holds one. Safe between threads and forks."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._file: int | None = None
        self._named: set[str] = set()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lease, in children forked meanwhile too; one within another one is the same.

        A store that cannot be written to gives none.
        """
        if self._file is not None:
            yield
            return
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                self._layout.prepare()
                make_directory(self._layout.leases)
                sweep(self._layout)
                lease = guarded.temporary(self._layout.leases)
                self._file, path = held.enter_context(lease)
                fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
                held.callback(self._end, path)
            yield

    def name(self, hashes: Iterable[str]) -> frozenset[str]:
        """Keep blobs and results from being collected; return those that were not kept so far.

        hashes: their sha256, in hexadecimal. Without a lease nothing happens.

        Raises:
            StoreUnavailable: the disk refuses.
        """
        if self._file is None:
            return frozenset()
        new = [name for name in hashes if name not in self._named]
        if new:
            try:
                with guarded.gate(self._layout.gate):
                    # A record that the disk cut off is ended by the next one.
                    copying.write(self._file, "".join(f"\n{name}" for name in new).encode())
            except OSError as error:
                raise unavailable(error, self._layout.leases) from error
            self._named.update(new)
        return frozenset(new)

    def _end(self, path: str) -> None:
        self._file = None
        self._named = set()
        with contextlib.suppress(OSError), guarded.gate(self._layout.gate):
            if collecting(self._layout):
                publish_over(path, f"{path}-ended")


def sweep(layout: Layout) -> None:
    """Remove the leases of the dead, unless a collection has to know of them."""
    with guarded.gate(layout.gate):
        if not collecting(layout):
            guarded.sweep(layout.leases)


def named(layout: Layout, lengths: dict[str, int]) -> set[str]:
    """Return the sha256 of what is named in leases, but for what was read of them before.

    lengths: the bytes that were read of each lease, which this brings up to date.
    """
    found: set[str] = set()
    for name in _names(layout.leases):
        with contextlib.suppress(FileNotFoundError), Path(layout.leases, name).open("rb") as lease:
            lease.seek(lengths.get(name, 0))
            text = lease.read()
            lengths[name] = lease.tell()
            found.update(text.decode("ascii").split())
    return found


@contextlib.contextmanager
def collector(layout: Layout) -> Iterator[None]:
    """Be the one who collects; waits for another one. Leases that end meanwhile stay readable."""
    layout.prepare()
    with guarded.lock(_lock(layout)):
        for begins in (True, False):
            with guarded.gate(layout.gate, alone=True):
                guarded.sweep(layout.leases)
            if begins:
                yield


def collecting(layout: Layout) -> bool:
    """Return whether a collection is under way, or was cut off."""
    return os.path.lexists(_lock(layout))


def register(layout: Layout, directory: Path) -> None:
    """Have a project's directory known to collections."""
    path = str(directory)
    target = f"{layout.projects}/{hashlib.sha256(os.fsencode(path)).hexdigest()}"
    if os.path.lexists(target):
        return
    with layout.writing(), layout.temporary() as (descriptor, temporary):
        copying.write(descriptor, os.fsencode(path))
        make_directory(layout.projects)
        publish_over(temporary, target)


def registered(layout: Layout) -> list[Path]:
    """Return the registered directories that are there."""
    return [found for _, found in _projects(layout) if found.is_dir()]


def forget_absent(layout: Layout) -> None:
    """Forget the registered directories that are not there."""
    for record, directory in _projects(layout):
        if not directory.is_dir():
            record.unlink(missing_ok=True)


def _projects(layout: Layout) -> Iterator[tuple[Path, Path]]:
    for name in _names(layout.projects):
        record = Path(layout.projects, name)
        with contextlib.suppress(FileNotFoundError):
            yield record, Path(os.fsdecode(record.read_bytes()))


def _lock(layout: Layout) -> str:
    return f"{layout.locks}/collection"


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208  a str, not a Path
    except FileNotFoundError:
        return []
