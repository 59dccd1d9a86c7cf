"""Collection: what a store may lose, and losing it, also while builds use the store.

Kept is what a running build named in its lease and what projects need (the roots). Of the rest,
results go that are too old or that have not been used for longest, until the rest fits, and blobs
that no result names. Results go before their blobs, so a collection cut off at any moment leaves
no result that names what is gone; even that would be a miss.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cache.errors import unavailable
from cache.local import guarded
from cache.local.layout import Layout, publish_over
from cache.local.leases import collector, forget_absent, named, registered, sweep
from cache.local.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from cache.digest import Digest
    from cache.local.survey import StoredBlob, StoredResult, Survey

K = TypeVar("K")
V = TypeVar("V")

_PART = 256  # files removed while no build can name anything


@dataclass(frozen=True)
class Limits:
    """What may stay: bytes in all, seconds since the last use; None for any."""

    size: int | None = None
    age: float | None = None


@dataclass(frozen=True)
class Doomed:
    """Results by the sha256 of their keys, blobs, and bytes of damaged files by path."""

    results: Mapping[str, StoredResult]
    blobs: Mapping[Digest, StoredBlob]
    corrupt: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        results = sum(result.size for result in self.results.values())
        blobs = sum(digest.size for digest in self.blobs)
        return results + blobs + sum(self.corrupt.values())


def choose(found: Survey, kept: Collection[str], limits: Limits, now_ns: int) -> Doomed:
    """Return what of a store has to go.

    kept: sha256 of results and blobs that stay, in hexadecimal. A result all of whose outputs stay
    does so, too; a result that lacks a blob goes in any case.
    """
    names = Counter(d for result in found.results.values() for d in result.outputs or ())
    oldest_ns = 0 if limits.age is None else now_ns - int(limits.age * 1e9)
    left = found.size - sum(_free(digest, names, kept) for digest in found.blobs)

    def usable(result: StoredResult) -> bool:
        return result.outputs is not None and result.outputs <= found.blobs.keys()

    def needed(name: str, result: StoredResult) -> bool:
        outputs = result.outputs or ()
        return name in kept or (usable(result) and all(d.hash in kept for d in outputs))

    def fits(result: StoredResult) -> bool:
        return result.used_ns >= oldest_ns and (limits.size is None or left <= limits.size)

    doomed = {}
    for name, result in sorted(
        found.results.items(), key=lambda item: (usable(item[1]), item[1].used_ns, item[0])
    ):
        if needed(name, result) or (usable(result) and fits(result)):
            continue
        doomed[name] = result
        outputs = [digest for digest in result.outputs or () if digest in found.blobs]
        names.subtract(outputs)
        left -= result.size + sum(_free(digest, names, kept) for digest in outputs)
    blobs = {
        digest: blob
        for digest, blob in found.blobs.items()
        if not names[digest] and digest.hash not in kept
    }
    return Doomed(doomed, blobs, found.corrupt)


def collect(
    root: Path,
    roots: Callable[[Path], Collection[str]],
    limits: Limits,
    now_ns: int,
    *,
    dry_run: bool = False,
) -> Doomed:
    """Remove from the store in a directory what has to go; return what went, or would go.

    roots: the sha256 of what the project in a registered directory needs, in hexadecimal.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    layout = Layout(str(root))
    try:
        if not os.path.lexists(layout.home):
            return Doomed({}, {}, {})
        if dry_run:
            sweep(layout)
            return choose(survey(root), Kept(layout, roots).hashes(), limits, now_ns)
        with collector(layout):
            kept = Kept(layout, roots)
            with guarded.gate(layout.gate, alone=True):
                hashes = kept.hashes()
            return _remove(layout, kept, choose(survey(root), hashes, limits, now_ns))
    except OSError as error:
        raise unavailable(error, root) from error


class Kept:
    """What leases name and projects need, read again in parts: only what is new of it."""

    def __init__(self, layout: Layout, roots: Callable[[Path], Collection[str]]) -> None:
        self._layout = layout
        self._roots = roots
        self._hashes: set[str] = set()
        self._projects: set[Path] = set()
        self._lengths: dict[str, int] = {}

    def hashes(self) -> set[str]:
        """Return what is to be kept now. Nobody may write to a lease between two calls' reading."""
        for project in registered(self._layout):
            if project not in self._projects:
                self._projects.add(project)
                self._hashes.update(self._roots(project))
        self._hashes.update(named(self._layout, self._lengths))
        return self._hashes


def _remove(layout: Layout, kept: Kept, doomed: Doomed) -> Doomed:
    """Remove what is not used meanwhile; return what went."""
    results: dict[str, StoredResult] = {}
    blobs: dict[Digest, StoredBlob] = {}
    rescued: set[Digest] = set()
    for some_results in _parts(doomed.results):
        with _removing(layout) as remove:
            hashes = kept.hashes()
            for name, result in some_results:
                if name in hashes or not _unused(result):
                    rescued.update(result.outputs or ())
                elif remove(result.path):
                    results[name] = result
    for some_blobs in _parts(doomed.blobs):
        with _removing(layout) as remove:
            hashes = kept.hashes()
            blobs |= {
                digest: blob
                for digest, blob in some_blobs
                if digest.hash not in hashes and digest not in rescued and remove(blob.path)
            }
    with _removing(layout) as remove:
        corrupt = {path: size for path, size in doomed.corrupt.items() if remove(path)}
    forget_absent(layout)
    return Doomed(results, blobs, corrupt)


def _parts(items: Mapping[K, V]) -> Iterator[list[tuple[K, V]]]:
    rest = iter(items.items())
    while part := list(itertools.islice(rest, _PART)):
        yield part


@contextlib.contextmanager
def _removing(layout: Layout) -> Iterator[Callable[[str], bool]]:
    """Yield what takes a file away, if it is there, while no build can name anything.

    The files are removed when builds go on: that of large ones takes time.
    """
    with guarded.scratch(layout.temporaries) as away:
        numbers = itertools.count()

        def remove(path: str) -> bool:
            try:
                publish_over(path, f"{away}/{next(numbers)}")
            except FileNotFoundError:
                return False
            return True

        with guarded.gate(layout.gate, alone=True):
            yield remove


def _free(digest: Digest, names: Counter[Digest], kept: Collection[str]) -> int:
    """Return the bytes that a blob occupies in vain."""
    return 0 if names[digest] or digest.hash in kept else digest.size


def _unused(result: StoredResult) -> bool:
    """Return whether a result is what it was: not found by a build meanwhile, nor replaced."""
    try:
        return os.stat(result.path).st_mtime_ns == result.used_ns  # noqa: PTH116  a str
    except FileNotFoundError:
        return True
