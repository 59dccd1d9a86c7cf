"""What the tests of the local store share: looks and blows past it."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from typing import TYPE_CHECKING

from cache import digest as digests
from cache import sealing
from cache.digest import FileHash

if TYPE_CHECKING:
    from pathlib import Path

    from cache.digest import Digest
    from cache.local.store import LocalStore

KEY = digests.of_bytes(b"key")
FORK = multiprocessing.get_context("fork")


def memory_directory() -> str | None:
    """Return a directory in memory where there is one: hundreds of stores take a disk a minute."""
    place = "/dev/shm"  # noqa: S108  where Linux has it
    return place if os.access(place, os.W_OK) else None


def blob_file(root: Path, digest: Digest) -> Path:
    return root / "v1" / "cas" / digest.hash[:2] / digest.hash


def result_file(root: Path, key: Digest) -> Path:
    return root / "v1" / "ac" / key.hash[:2] / key.hash


def overwrite(path: Path, data: bytes | None) -> None:
    """Change a file in place, whatever its mode, or remove it."""
    if data is None:
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(data)


def leftovers(root: Path) -> list[str]:
    """Return what operations left behind that is neither a blob nor a result."""
    return [
        str(path.relative_to(root))
        for name in ("tmp", "locks")
        for path in (root / "v1" / name).rglob("*")
    ]


def check_whole(root: Path) -> None:
    """Assert that everything that has a name in the store is what its name says."""
    for path in (root / "v1" / "cas").glob("*/*"):
        assert digests.of_bytes(path.read_bytes()).hash == path.name
        assert path.parent.name == path.name[:2]
        assert path.stat().st_mode & 0o7777 == 0o444
    for path in (root / "v1" / "ac").glob("*/*"):
        assert path.name == KEY.hash
        for digest in sealing.unseal(KEY, path.read_bytes()).outputs.values():
            assert blob_file(root, digest).exists()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def rot(store: LocalStore, digest: Digest) -> None:
    """Change a blob as a failing disk does: the file's status shows nothing."""
    path = blob_file(store.root, digest)
    overwrite(path, path.read_bytes().swapcase())
    store.stat.learn(path.stat(), FileHash(digest, bytes(16)), time.time_ns() + 60_000_000_000)
