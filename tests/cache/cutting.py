"""A proxy that cuts its connections after so many bytes."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Cutter:
    """What goes on behind a port: bytes of the client and of the server are forwarded and counted.

    left: how many more of each direction are; the first one too many cuts the connection, and
    every later one. None for no end.
    """

    port: int = 0
    left: dict[str, int | None] = field(default_factory=lambda: {"client": None, "server": None})
    passed: dict[str, int] = field(default_factory=lambda: {"client": 0, "server": 0})
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self, side: str = "client", left: int | None = None) -> None:
        with self._lock:
            self.left = {"client": None, "server": None, side: left}
            self.passed = {"client": 0, "server": 0}

    def allow(self, side: str, data: bytes) -> tuple[bytes, bool]:
        """What of some bytes is forwarded, and whether the connection goes on."""
        with self._lock:
            left = self.left[side]
            part = data if left is None else data[:left]
            if left is not None:
                self.left[side] = left - len(part)
            self.passed[side] += len(part)
            return part, len(part) == len(data)


@contextlib.contextmanager
def cutting(upstream: int) -> Iterator[Cutter]:
    """Run such a proxy to a port of loopback."""
    cutter = Cutter()

    def pump(side: str, source: socket.socket, target: socket.socket) -> None:
        goes_on = True
        with contextlib.suppress(OSError):
            while goes_on and (data := source.recv(1 << 16)):
                part, goes_on = cutter.allow(side, data)
                target.sendall(part)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", upstream)) as server:
                back = threading.Thread(target=pump, args=("server", server, self.request))
                back.start()
                pump("client", self.request, server)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        cutter.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield cutter
        finally:
            server.shutdown()
            thread.join()
