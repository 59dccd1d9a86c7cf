"""Hard links out of a store: one inode under a blob's name and a user's."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from cache.local import guarded
from cache.local.layout import FILE_MODE, publish_over

if TYPE_CHECKING:
    from cache.local.layout import Layout

# The file system, or the number of links that a file already has, forbids one more.
IMPOSSIBLE = frozenset(
    (
        errno.EXDEV,
        errno.EMLINK,
        errno.EPERM,
        errno.EACCES,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EROFS,
    )
)


def link(layout: Layout, blob: str, target: str) -> bool:
    """Make a path a hard link to a blob, in one step; return whether that is possible.

    Raises:
        OSError: something else is wrong; the target is what it was.
    """
    try:
        if stat.S_IMODE(os.lstat(blob).st_mode) != FILE_MODE:
            os.chmod(blob, FILE_MODE)  # noqa: PTH101  changed through another link
        try:
            os.link(blob, target)
        except FileExistsError:
            if not _same_file(blob, target):
                # The new link's first name is in the store, where a crash leaves no trace.
                layout.prepare()
                with guarded.scratch(layout.temporaries) as place:
                    os.link(blob, f"{place}/link")
                    publish_over(f"{place}/link", target)
    except OSError as error:
        if error.errno in IMPOSSIBLE:
            return False
        raise
    return True


def _same_file(one: str, other: str) -> bool:
    try:
        first, second = os.lstat(one), os.lstat(other)
    except FileNotFoundError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
