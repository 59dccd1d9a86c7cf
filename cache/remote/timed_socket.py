"""Sockets on which nothing lasts longer than it may, however slowly the other side goes on.

A time limit for each system call does not do: a byte every few seconds would satisfy it forever.
"""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING, Any

from cache.remote.transport import SLOWEST

if TYPE_CHECKING:
    from collections.abc import Callable

_BUFFER = 1 << 18


class TimedSocket:
    """As much of a socket as `http.client` uses, with a time limit for whole exchanges.

    seconds: the longest silence, and the time for an exchange of no bytes.
    """

    def __init__(
        self,
        inner: socket.socket,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def begin(self, size: int) -> None:
        """Begin an exchange of about so many bytes."""
        self._end = self._clock() + self._seconds + size / SLOWEST

    def sendall(self, data: Any) -> None:
        """Send all of `data`; TimeoutError if the time is up."""
        self._inner.settimeout(self._left())
        self._inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader of what is received, on which the limit holds."""
        del mode  # http.client reads bytes
        # the file counts among the socket's users, which is closed with the last of them
        raw = self._inner.makefile("rb", buffering=0)
        return io.BufferedReader(_TimedReader(raw, self), _BUFFER)

    def close(self) -> None:
        """Close the socket, once its reader is closed too."""
        self._inner.close()

    def limit(self) -> None:
        """Let the next system call not last longer than it may; TimeoutError if the time is up."""
        self._inner.settimeout(self._left())

    def _left(self) -> float:
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, self._seconds)


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase | Any, timed: TimedSocket) -> None:
        self._raw = raw
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._timed.limit()
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
