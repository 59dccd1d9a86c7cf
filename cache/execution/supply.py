"""What actions need, brought to the server that executes them: each blob once in a run."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from cache import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cache.digest import Digest
    from cache.remote.grpc_transport import GrpcTransport
    from cache.remote.store import RemoteStore

    # Returns what blobs hold: their bytes, or the file that has them.
    Contents = Callable[[Collection[Digest]], Mapping[Digest, bytes | Path]]


class Supply:
    """The blobs that a server has been made to have. Safe between threads.

    store: the server's CAS; transport: the same, for many blobs in one message.
    """

    def __init__(self, store: RemoteStore, transport: GrpcTransport) -> None:
        self._store = store
        self._transport = transport
        self._present: set[Digest] = set()
        self._uploads: dict[Digest, Future[None]] = {}
        self._lock = threading.Lock()

    def bring(
        self, blobs: Collection[Digest], contents: Contents, lost: Collection[Digest] = ()
    ) -> bool:
        """Make the server have `blobs`; return whether it lacked any.

        lost: those of them that it lacks whatever it says.

        Raises:
            CacheError: it refuses, a file holds something else, or what `contents` raises.
        """
        with self._lock:
            asked = set(blobs) - self._present
        missing = set(lost) & set(blobs)
        if asked - missing:
            missing |= self._store.missing(asked - missing)
        if missing:
            found = contents(missing)
            small = {key: value for key, value in found.items() if isinstance(value, bytes)}
            self._transport.send_all(small)
            large = [(key, value) for key, value in found.items() if isinstance(value, Path)]
            parallel.each(lambda one: self._upload(*one), sorted(large))
        with self._lock:
            self._present |= asked
        return bool(missing)

    def forget(self) -> None:
        """Believe nothing any more of what the server has."""
        with self._lock:
            self._present.clear()

    def _upload(self, digest: Digest, path: Path) -> None:
        """Upload a file, once however many actions need it at the same time."""
        ours: Future[None] = Future()
        with self._lock:
            begun = self._uploads.setdefault(digest, ours)
        if begun is not ours:
            begun.result()
            return
        try:
            with path.open("rb") as source:
                self._store.upload(digest, source)
        except BaseException as error:
            ours.set_exception(error)
            raise
        else:
            ours.set_result(None)
        finally:
            with self._lock:
                del self._uploads[digest]
