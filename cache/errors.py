"""What can go wrong between a build and its store, each as one message and a hint."""

from __future__ import annotations

import errno
import os

_ELSEWHERE = "set OLMILL_CACHE_DIR to a writable directory on a local disk"
_HINTS = {
    errno.ENOSPC: "free some space, or set OLMILL_CACHE_DIR to a directory on a larger disk",
    errno.EDQUOT: "free some space, or set OLMILL_CACHE_DIR to a directory without a quota",
    errno.EFBIG: "raise the file size limit (ulimit -f), or set OLMILL_CACHE_DIR to another disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer parallel processes",
    errno.ENFILE: "close other programs, or use fewer parallel processes",
    errno.EIO: "check the disk, or set OLMILL_CACHE_DIR to a directory on another one",
}


class CacheError(Exception):
    """A mistake or a failure that `str()` tells in one line and `hint` helps out of."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[type[CacheError], tuple[str, str | None]]:
        # Exceptions travel between worker processes; the default forgets the hint.
        return type(self), (str(self), self.hint)


class MissingBlob(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """A store does not hold the blob."""


class CorruptBlob(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """Bytes are not what their digest, checksum or message type says."""


class InvalidPath(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """A path is not a canonical relative path, or clashes with another one."""


class StoreUnavailable(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """The store's disk or server refuses to work: full, read-only, forbidden, broken."""


def unavailable(error: OSError, path: str | os.PathLike[str]) -> StoreUnavailable:
    """Return the StoreUnavailable for an operating system's refusal.

    The message names the file the system complained about, or else `path`.
    """
    name = error.filename if isinstance(error.filename, str) else os.fspath(path)
    reason = error.strerror or type(error).__name__
    hint = _HINTS.get(error.errno or 0, _ELSEWHERE)
    return StoreUnavailable(f"{name}: {reason}", hint)
