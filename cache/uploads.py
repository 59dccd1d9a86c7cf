"""What goes to a server in the background: in a few threads, together where it came together."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from cache import parallel

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")

_THREADS = 4
_TOGETHER = 64


class Uploads(Generic[T]):
    """A queue of what is to be sent. Safe between threads.

    send: sends some of it; what waits while all threads do goes together. abandoned: whether nothing
    more is to be sent; what `send` has begun it may leave undone.
    """

    def __init__(self, send: Callable[[list[T]], None]) -> None:
        self._send = send
        self._waiting: deque[T] = deque()
        self._unsent = 0
        self.abandoned = threading.Event()
        self._threads: ThreadPoolExecutor | None = None
        self._begun: list[Future[None]] = []
        self._lock = threading.Lock()

    def add(self, item: T) -> None:
        """Have something sent."""
        with self._lock:
            self._waiting.append(item)
            self._unsent += 1
        self._threads = self._threads or parallel.pool(_THREADS)
        self._begun.append(self._threads.submit(self._work))

    def pending(self) -> int:
        """Return how much is not sent yet."""
        return self._unsent

    def finish(self, *, abandon: bool = False) -> None:
        """Wait until everything is sent, or begin to send nothing more (`abandon`).

        Raises what `send` raised.
        """
        if self._threads is None:
            return
        if abandon:
            with self._lock:
                self._waiting.clear()
            self.abandoned.set()
        self._threads.shutdown(cancel_futures=abandon)
        self.abandoned.clear()
        begun, self._begun, self._threads, self._unsent = self._begun, [], None, 0
        for one in begun:
            if not one.cancelled():
                one.result()

    def _work(self) -> None:
        with self._lock:
            items = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
        if not items:
            return
        try:
            self._send(items)
        finally:
            with self._lock:
                self._unsent -= len(items)
