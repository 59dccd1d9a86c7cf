"""Conversion kernels for commands that run outside a build: compiled when first needed, and kept.

They are kept in a directory of the user's, under a name that changes with everything they depend
on: compiling takes as long as converting a billion parameters. A build has them in its own store.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from olmo.codec import file_name
from olmo.kernels import host_of_kernels

# Below this, numpy is done before kernels are compiled.
WORTH_COMPILING = 200_000_000  # parameters

_SOURCES = (
    "codec.py",
    "codec_kernels.py",
    "float8_formats.py",
    "float_kernels.py",
    "kernel_library.py",
    "link.py",
    "zig.py",
)
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "ziglang")


@contextmanager
def kernels_for(parameters: int, cache: Path) -> Iterator[Path | None]:
    """Yield a directory with kernels for this machine, to convert so many parameters.

    None where there are none for this machine, or where it is not worth compiling them. If nothing
    can be kept in `cache`, or others could write there, they are compiled for this once.

    Raises:
        OlmoError: the linker is missing or fails.
    """
    host = host_of_kernels()
    if host is None:
        yield None
        return
    kept = cache / f"kernels-{_identity()}"
    if _is_trusted(kept / file_name(host)):
        yield kept
    elif parameters < WORTH_COMPILING:
        yield None
    else:
        with tempfile.TemporaryDirectory() as temporary:
            made = _build(host, Path(temporary))
            yield kept if _keep(made, kept) else made.parent


def _identity() -> str:
    """Return a digest of what kernels are made from and with."""
    digest = sha256()
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    for tool in _TOOLS:
        try:
            digest.update(f"{tool} {version(tool)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{tool}\n".encode())
    return digest.hexdigest()[:32]


def _build(host: str, directory: Path) -> Path:
    from olmo.kernel_library import build_kernels  # noqa: PLC0415  imports tvm

    work, out = directory / "work", directory / "kernels"
    work.mkdir()
    out.mkdir()
    build_kernels(host, out / file_name(host), work)
    return out / file_name(host)


def _keep(library: Path, directory: Path) -> bool:
    """Copy a library to `directory`, whole or not at all; tell whether it is there for us alone."""
    place = directory / library.name
    temporary = directory / f".{library.name}.{os.getpid()}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(library.read_bytes())
        temporary.chmod(0o600)
        temporary.replace(place)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        return False
    return _is_trusted(place)


def _is_trusted(library: Path) -> bool:
    """Return whether a library is there that nobody but this user can have written."""
    try:
        found = [library.lstat(), library.parent.lstat()]
    except OSError:
        return False
    return stat.S_ISREG(found[0].st_mode) and all(
        status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for status in found
    )
