"""Where things are in a store's directory, and how its directories come to be.

    root/CACHEDIR.TAG           tells backup programs that all this can be made again
    root/v1/cas/ab/<sha256>     blobs, read-only, never changed once there
    root/v1/ac/ab/<sha256>      results by action key, each sealed with a checksum
    root/v1/tmp/                what is being made; left by a dead process, it is swept
    root/v1/locks/              one file for each lock that is held
    root/v1/corrupt/            what was found in the CAS under a wrong name
    root/v1/leases/             one file for each running build: what it needs
    root/v1/gate                held to write to a lease, and to remove what is in none
    root/v1/projects/           one file for each project that uses the store: its directory
    root/v1/stat.sqlite         the stat cache

Modes do not depend on the umask: 0755 for directories, 0444 for what is published.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cache.errors import unavailable
from cache.local import copying, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest

FILE_MODE = 0o444
_DIRECTORY_MODE = 0o755
_TAG_NAME = "CACHEDIR.TAG"
_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This file marks a cache of Olmill: its content can be made again.
# For information about cache directory tags see https://bford.info/cachedir/
"""


class Layout:
    """The paths of a store below an absolute root, and its directories, made when needed.

    A layout of another version has a directory of its own, beside this one.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.home = f"{root}/v1"
        self.blobs = f"{self.home}/cas"
        self.results = f"{self.home}/ac"
        self.temporaries = f"{self.home}/tmp"  # noqa: S108  inside the store
        self.locks = f"{self.home}/locks"
        self.corrupt = f"{self.home}/corrupt"
        self.stat = f"{self.home}/stat.sqlite"
        self.leases = f"{self.home}/leases"
        self.gate = f"{self.home}/gate"
        self.projects = f"{self.home}/projects"
        self._swept = False
        self._prepared = False

    def blob(self, digest: Digest) -> str:
        """Return the path of a blob."""
        return f"{self.blobs}/{digest.hash[:2]}/{digest.hash}"

    def result(self, key: Digest) -> str:
        """Return the path of an action's result."""
        return f"{self.results}/{key.hash[:2]}/{key.hash}"

    def sweep_once(self) -> None:
        """On the first call, remove what dead processes left."""
        if not self._swept:
            self._swept = True
            guarded.sweep(self.temporaries)
            guarded.sweep(self.locks)

    def prepare(self) -> None:
        """Make the directories that are not there.

        Raises:
            OSError: the disk refuses.
        """
        self.sweep_once()
        if self._prepared and os.path.isdir(self.temporaries):  # noqa: PTH112  a str, not a Path
            return
        for directory in (self.temporaries, self.locks):
            make_directory(directory)
        if not any(os.path.lexists(f"{place}/{_TAG_NAME}") for place in (self._root, self.home)):
            # Beside files that are not ours, the tag would declare those a cache, too.
            alone = os.listdir(self._root) == ["v1"]  # noqa: PTH208  a list is compared
            with self.temporary() as (descriptor, path):
                copying.write(descriptor, _TAG)
                os.fchmod(descriptor, FILE_MODE)
                publish_over(path, f"{self._root if alone else self.home}/{_TAG_NAME}")
        self._prepared = True

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Prepare to write, and tell the operating system's refusals as StoreUnavailable."""
        try:
            self.prepare()
            yield
        except OSError as error:
            raise unavailable(error, self.home) from error

    def temporary(self) -> contextlib.AbstractContextManager[tuple[int, str]]:
        """Return the context of an open file that goes unless it is published."""
        return guarded.temporary(self.temporaries)


def make_directory(path: str) -> None:
    """Make a directory and those above it, durably; one that exists is left as it is."""
    try:
        os.mkdir(path, _DIRECTORY_MODE)  # noqa: PTH102  a str, not a Path
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(parent(path))
        try:
            os.mkdir(path, _DIRECTORY_MODE)  # noqa: PTH102  as above
        except FileExistsError:  # another process was faster
            return
    os.chmod(path, _DIRECTORY_MODE)  # noqa: PTH101  a str, not a Path
    copying.sync(parent(path))


def publish_over(path: str, target: str) -> None:
    """Give a finished file its final name, in one step, replacing what had it."""
    os.replace(path, target)  # noqa: PTH105  a str, not a Path


def parent(path: str) -> str:
    """Return the directory that a path is in."""
    return path.rpartition("/")[0] or "/"
