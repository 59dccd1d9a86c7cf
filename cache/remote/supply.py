"""What others need of blobs, brought to a server: each once, however many ask for it at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from concurrent.futures import Future

    from cache.digest import Digest
    from cache.remote.store import RemoteStore

    # Returns what blobs hold: their bytes, or the file that has them.
    Contents = Callable[[Collection[Digest]], Mapping[Digest, bytes | Path]]


class Supply:
    """The blobs that a server has been made to have. Safe between threads."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store
        self._present: set[Digest] = set()
        self._uploads: dict[Digest, Future[None]] = {}
        self._lock = threading.Lock()

    def bring(
        self, blobs: Collection[Digest], contents: Contents, lost: Collection[Digest] = ()
    ) -> bool:
        """Make the server have `blobs`; return whether it lacked any.

        contents: is asked for what it lacks. lost: those of them that it lacks whatever it says.

        Raises:
            CacheError: it refuses, a file holds something else, or what `contents` raises.
        """
        with self._lock:
            asked = set(blobs) - (self._present - self._store.damaged)
        missing = set(lost) & set(blobs)
        if asked - missing:
            missing |= self._store.missing(asked - missing)
        if missing:
            self._upload(contents(missing), {*lost, *self._store.damaged})
        with self._lock:
            self._present |= asked
        return bool(missing)

    def forget(self) -> None:
        """Believe nothing any more of what the server has."""
        with self._lock:
            self._present.clear()

    def _upload(self, contents: Mapping[Digest, bytes | Path], lost: Collection[Digest]) -> None:
        """Upload blobs, or wait for who does, unless that was done since it was asked for them."""
        from concurrent.futures import Future  # noqa: PLC0415  (as in `parallel.pool`)

        with self._lock:
            begun = [self._uploads[digest] for digest in contents if digest in self._uploads]
            ours: dict[Digest, Future[None]] = {
                digest: Future()
                for digest in contents
                if digest not in self._uploads and (digest in lost or digest not in self._present)
            }
            self._uploads |= ours

        def stored(digest: Digest) -> None:
            with self._lock:
                self._present.add(digest)
            ours[digest].set_result(None)

        try:
            self._store.upload_many({digest: contents[digest] for digest in ours}, stored)
        except BaseException as error:
            for one in ours.values():
                if not one.done():
                    one.set_exception(error)
            raise
        finally:
            with self._lock:
                for digest in ours:
                    del self._uploads[digest]
        for other in begun:
            other.result()
