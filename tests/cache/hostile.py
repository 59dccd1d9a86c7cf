"""A small HTTP server that can be told to answer anything at all."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Request:
    """What a client asked. port: of the client's end of the connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    port: int


def response(body: bytes = b"", status: str = "200 OK", headers: str = "", size: int = -1) -> bytes:
    """Return an answer; `size` is what it says of its body, where that is not the truth."""
    length = len(body) if size < 0 else size
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + body


@dataclass
class Hostile:
    """A server that keeps what is PUT and serves it, unless `attack` has another answer.

    attack: returns the parts of an answer, after which the connection is cut, or None for the
    honest one. asked: every request so far.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    attack: Callable[[Request], Iterator[bytes] | None] = lambda _: None
    asked: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> bytes:
        if request.method == "PUT":
            self.files[request.path] = request.body
            return response(status="201 Created")
        data = self.files.get(request.path)
        if data is None:
            return response(status="404 Not Found")
        whole = response(data)
        return whole[: -len(data) or None] if request.method == "HEAD" else whole


@contextlib.contextmanager
def hostile() -> Iterator[Hostile]:
    """Run such a server on loopback."""
    told = Hostile()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                while line := self.rfile.readline().decode():
                    method, path, _ = line.split()
                    headers = {}
                    while field := self.rfile.readline().decode().strip():
                        name, _, value = field.partition(": ")
                        headers[name.lower()] = value
                    body = self.rfile.read(int(headers.get("content-length", 0)))
                    request = Request(method, path, headers, body, self.client_address[1])
                    told.asked.append(request)
                    parts = told.attack(request)
                    if parts is not None:
                        for part in parts:
                            self.wfile.write(part)
                        return
                    self.wfile.write(told.answer(request))

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        told.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
