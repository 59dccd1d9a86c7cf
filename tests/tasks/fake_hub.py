"""A server on 127.0.0.1 that speaks the part of the Hub's API that downloads use, with faults."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TypeVar

REPO = "owner/name"
REVISION = "0123456789" * 4
LARGE = (".safetensors", ".bin", ".gguf")


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Hub:
    """What the server serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    port: int = 0
    credential: str | None = None  # without it the repository is private
    gated: bool = False
    page: int = 1000  # entries of one page of the listing
    busy: int = 0  # requests still to be answered with 429
    failing: int = 0  # and with 500
    cuts: list[int] = field(default_factory=list)  # connections cut after so many bytes of a file
    wrong: dict[str, list[bytes]] = field(default_factory=dict)  # bytes sent instead, in turn
    ranges: bool = True
    log: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, method: str, part: str) -> list[Mapping[str, str]]:
        """Headers of the requests of a method whose path contains `part`."""
        return [headers for m, path, headers in self.log if m == method and part in path]


H = TypeVar("H", bound=Hub)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        hub.log.append((self.command, self.path, dict(self.headers.items())))
        if self.path.startswith("/cdn/"):
            self._cdn(self.path.removeprefix("/cdn/"))
        elif hub.busy:
            hub.busy -= 1
            self._send(429, b"", {"Retry-After": "7"})
        elif hub.failing:
            hub.failing -= 1
            self._send(500, b"")
        elif (
            hub.credential is not None
            and self.headers["Authorization"] != f"Bearer {hub.credential}"
        ):
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif hub.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access denied"})
        else:
            self._route()

    def _route(self) -> None:
        tree = re.fullmatch(r"/api/models/([^?]+)/tree/(\w+)(?:\?(.*))?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", self.path)
        found = tree or file
        if found is None or found[1] != REPO:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif found[2] != REVISION:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif tree is not None:
            self._tree(tree[3] or "")
        else:
            self._file(found[3])

    def _tree(self, query: str) -> None:
        cursor = re.search(r"cursor=(\d+)", query)
        start = int(cursor[1]) if cursor else 0
        names = sorted(self.hub.files)
        page = [self._entry(name) for name in names[start : start + self.hub.page]]
        headers = {}
        if start + self.hub.page < len(names):
            following = f"{self.hub.endpoint}{self.path.partition('?')[0]}"
            headers["Link"] = f'<{following}?cursor={start + self.hub.page}>; rel="next"'
        self._send(200, json.dumps(page).encode(), headers)

    def _entry(self, name: str) -> dict[str, object]:
        data = self.hub.files[name]
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data)}
        entry["oid"] = git_oid(data)
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        return entry

    def _file(self, name: str) -> None:
        data = self.hub.files.get(name)
        headers = {"X-Repo-Commit": REVISION}
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", **headers})
        elif name.endswith(LARGE):
            headers["X-Linked-Etag"] = f'"{sha256(data)}"'
            headers["X-Linked-Size"] = str(len(data))
            headers["Location"] = f"http://localhost:{self.hub.port}/cdn/{sha256(data)}"
            self._send(302, b"", headers)
        else:
            self._bytes(name, data, {"ETag": f'"{git_oid(data)}"', **headers})

    def _cdn(self, digest: str) -> None:
        name, data = next((n, d) for n, d in self.hub.files.items() if sha256(d) == digest)
        self._bytes(name, data, {"ETag": '"of the cdn"'})

    def _bytes(self, name: str, data: bytes, headers: Mapping[str, str]) -> None:
        if self.command == "GET" and self.hub.wrong.get(name):
            data = self.hub.wrong[name].pop(0)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and self.hub.ranges:
            start = int(asked[1])
            place = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206, data[start:], {**headers, "Content-Range": place})
        else:
            self._send(200, data, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if status in {200, 206} and self.path.startswith("/cdn/") and self.hub.cuts:
            self.wfile.write(body[: self.hub.cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[Hub]:
    with serving(Hub(dict(files)), _Handler) as hub:
        yield hub


@contextmanager
def serving(hub: H, base: type[_Handler]) -> Iterator[H]:
    handler = type("Handler", (base,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
