"""Every byte of a store held against what it should be, whatever the stat cache believes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import digest as digests
from cache import parallel, sealing
from cache.errors import unavailable
from cache.local import guarded
from cache.local.layout import Layout
from cache.local.leases import named
from cache.local.survey import survey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cache.digest import Digest
    from cache.local.store import LocalStore


@dataclass(frozen=True)
class Verified:
    """What there was, and what of it was damaged: blobs put aside, results removed.

    blobs: of damaged ones, by digest, the sha256 of the keys of results that name them. lacking:
    results that are intact, but lack a blob, damaged ones included.
    """

    results: int
    size: int
    damaged_blobs: Mapping[Digest, tuple[str, ...]]
    damaged_results: tuple[str, ...]
    lacking: tuple[str, ...]


def verify(store: LocalStore) -> Verified:
    """Read all that a store holds; put damaged blobs aside and remove damaged results.

    Builds may use the store meanwhile.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    found = survey(store.root)
    blobs = list(found.blobs)
    intact = parallel.each(lambda digest: _intact(store, found.blobs[digest].path, digest), blobs)
    wrong = {digest.hash: digest for digest, good in zip(blobs, intact, strict=True) if not good}
    sizes: list[int] = []
    damaged = {
        name: result.path
        for name, result in found.results.items()
        if result.outputs is None or not _sealed(name, result.path, sizes)
    }
    _discard(Layout(str(store.root)), damaged)
    held = {digest for digest, good in zip(blobs, intact, strict=True) if good}
    names: dict[Digest, tuple[str, ...]] = dict.fromkeys(wrong.values(), ())
    for name, result in found.results.items():
        for output in result.outputs or ():  # a truncated blob has another size than it had
            if (digest := wrong.get(output.hash)) is not None:
                names[digest] += (name,)
    lacking = tuple(
        name
        for name, result in found.results.items()
        if name not in damaged and not (result.outputs or frozenset()) <= held
    )
    return Verified(len(found.results), found.size, names, tuple(damaged), lacking)


def _intact(store: LocalStore, path: str, digest: Digest) -> bool:
    """Return whether a blob is what its name says; one that is not is put aside."""
    try:
        if digests.of_file(path).digest == digest:
            return True
        store.stat.doubt(path)
    except FileNotFoundError:  # collected, or put aside by a build
        return True
    except OSError as error:
        raise unavailable(error, path) from error
    return store.contains(digest)


def _sealed(name: str, path: str, sizes: list[int]) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a str, not a Path
            return sealing.is_whole(name, file.read(), sizes)
    except FileNotFoundError:  # collected meanwhile
        return True
    except OSError as error:
        raise unavailable(error, path) from error


def _discard(layout: Layout, damaged: Mapping[str, str]) -> None:
    """Remove results, but for those that a running build is about to replace."""
    if not damaged:
        return
    try:
        with guarded.gate(layout.gate, alone=True):
            for name in damaged.keys() - named(layout, {}):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(damaged[name])  # noqa: PTH108  a str, not a Path
    except OSError as error:
        raise unavailable(error, layout.results) from error
