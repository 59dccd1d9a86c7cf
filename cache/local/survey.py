"""What is in a store's directory: every result and every blob, with size and last use.

A result was last used when a build last found or stored it: that is its mtime, which nothing else
touches; the time of the last reading (atime) is kept by few file systems, and a
backup would count as use. A blob was last used when its ctime says so: it was stored, linked to a
user's file, or kept for a build.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import sealing
from cache.digest import Digest
from cache.errors import CacheError, unavailable
from cache.local.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class StoredResult:
    """A result: its file, bytes of that, last use, and its outputs; None if it is damaged."""

    path: str
    size: int
    used_ns: int
    outputs: frozenset[Digest] | None


@dataclass(frozen=True)
class StoredBlob:
    """A blob: its file and last use."""

    path: str
    used_ns: int


@dataclass(frozen=True)
class Survey:
    """A store's results by the sha256 of their keys, its blobs, and files put aside as damaged."""

    results: Mapping[str, StoredResult]
    blobs: Mapping[Digest, StoredBlob]
    corrupt: Mapping[str, int]  # bytes by path

    @property
    def size(self) -> int:
        """Bytes of all results and blobs."""
        held = sum(digest.size for digest in self.blobs)
        return held + sum(result.size for result in self.results.values())


def survey(root: Path) -> Survey:
    """Return what the store in a directory holds; what comes or goes meanwhile may be in it.

    Results are read, and checked as far as that goes without their keys; blobs are not.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    layout = Layout(str(root))
    try:
        results = {
            name: StoredResult(path, status.st_size, status.st_mtime_ns, _outputs(path))
            for name, path, status in _files(layout.results)
        }
        blobs = {
            Digest(name, status.st_size): StoredBlob(path, status.st_ctime_ns)
            for name, path, status in _files(layout.blobs)
        }
        corrupt = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(layout.corrupt) as entries:
            corrupt = {entry.path: entry.stat().st_size for entry in entries}
    except OSError as error:
        raise unavailable(error, root) from error
    return Survey(results, blobs, corrupt)


def _files(directory: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield name, path and status of the files that are named by a sha256, in order."""
    for part in _names(directory):
        for name in _names(f"{directory}/{part}"):
            path = f"{directory}/{part}/{name}"
            if _NAME.fullmatch(name) and name.startswith(part):
                with contextlib.suppress(FileNotFoundError):
                    yield name, path, os.stat(path)  # noqa: PTH116  a str, not a Path


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208  a str, not a Path
    except (FileNotFoundError, NotADirectoryError):
        return []


def _outputs(path: str) -> frozenset[Digest] | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a str, not a Path
            entry = file.read()
        return frozenset(sealing.unchecked(entry).outputs.values())
    except (FileNotFoundError, CacheError):
        return None
