"""Files that commands outside a build keep for the next time, in a directory of the user's.

Their names change with everything they depend on. Code is among them, so only files that nobody but
the user can have written are used.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def identity(sources: Iterable[Path], tools: Iterable[str]) -> str:
    """Return a digest of the files and of the versions of the distributions."""
    digest = sha256()
    for source in sources:
        digest.update(source.read_bytes())
    for tool in tools:
        try:
            digest.update(f"{tool} {version(tool)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{tool}\n".encode())
    return digest.hexdigest()[:32]


def keep(made: Path, directory: Path) -> bool:
    """Copy a file to `directory`, whole or not at all; tell whether it is there for us alone."""
    place = directory / made.name
    temporary = directory / f".{made.name}.{os.getpid()}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(made.read_bytes())
        temporary.chmod(0o600)
        temporary.replace(place)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        return False
    return is_trusted(place)


def is_trusted(file: Path) -> bool:
    """Return whether a file is there that nobody but this user can have written."""
    try:
        found = [file.lstat(), file.parent.lstat()]
    except OSError:
        return False
    return stat.S_ISREG(found[0].st_mode) and all(
        status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for status in found
    )
