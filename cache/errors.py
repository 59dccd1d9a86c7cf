"""What can go wrong between a build and its store, each as one message and a hint."""

from __future__ import annotations

import errno
import os

_HINTS = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EFBIG: "raise the file size limit (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, or use fewer parallel processes",
    errno.EIO: "check the disk",
    errno.EEXIST: "move away what is there",
    errno.ENOTDIR: "move away the file that is in the place of a directory",
    errno.ENOLCK: "use a file system with locks",
    errno.EROFS: "use a writable directory",
}
_OTHER_HINT = "make sure that you may write there"


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


class Untrusted(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """Nobody who is trusted vouches for a result."""


class StoreUnavailable(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """The store's disk or server refuses to work: full, read-only, forbidden, broken."""


class RemoteUnavailable(StoreUnavailable):
    """A server refuses to work, or cannot be reached."""


class Interrupted(RemoteUnavailable):
    """A server did not do it this time: overloaded, restarting, or the connection broke.

    after: seconds that the server asks to wait before the next attempt.
    """

    def __init__(self, message: str, hint: str | None = None, after: float = 0.0) -> None:
        super().__init__(message, hint)
        self.after = after


def said(text: str, most: int) -> str:
    """Return the beginning of what a server said, in whole words, without what a terminal would obey.

    most: characters; an ellipsis says that there was more.
    """
    shown = "".join(c if c.isprintable() else " " for c in text).rstrip()
    if len(shown) <= most:
        return shown
    head, after = shown[: most - 1], shown[most - 1]
    if after != " ":
        head = head.rpartition(" ")[0] or head
    return f"{head.rstrip()}…"


def unavailable(
    error: OSError, path: str | os.PathLike[str], *, store: bool = True
) -> StoreUnavailable:
    """Return the StoreUnavailable for an operating system's refusal.

    The message names the file the system complained about, or else `path`. store: whether that
    is a file of the store, which could be elsewhere.
    """
    name = error.filename if isinstance(error.filename, str) else os.fspath(path)
    reason = error.strerror or type(error).__name__
    hint = _HINTS.get(error.errno or 0, _OTHER_HINT)
    if store:
        hint += ", or set OLMILL_CACHE_DIR to another directory"
    return StoreUnavailable(f"{name}: {reason}", hint)
