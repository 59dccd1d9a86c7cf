"""`doit serve`: a server on this machine for the page that chats with libraries for WebGPU.

It listens on 127.0.0.1 alone and only reads. Requests under another host's name are refused, so
that no page from elsewhere reaches it by a name that was pointed here (DNS rebinding).
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import unquote

from doit.exceptions import InvalidCommand

from olmo.errors import OlmoError
from olmo.verification.emulator import place
from olmo.wasm.packages import has_packages
from tasks.commands.node_command import NodeCommand
from tasks.graph import message
from tasks.plan import DIST
from tasks.session import Session
from tasks.site import Site, addresses, models
from tasks.verification import INSTALL

HOST = "127.0.0.1"
PORT = 8000
OWN_NAMES = frozenset({HOST, "localhost"})
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
# web-llm's tokenizer is WebAssembly in a data URL.
POLICY = (
    "default-src 'self'; connect-src 'self' data:; "
    "script-src 'self' 'wasm-unsafe-eval'; frame-ancestors 'none'; base-uri 'none'"
)


class Server(ThreadingHTTPServer):
    """A server of a site; browsers that hang up in the middle are no errors."""

    def __init__(self, site: Site, port: int) -> None:
        super().__init__((HOST, port), partial(Handler, site))

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what failed in a request, unless it is the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; anything else is refused by the base class, with 501."""

    def __init__(self, site: Site, *arguments: Any) -> None:
        self._site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer with the headers of a file."""
        self._answer()

    def _answer(self) -> None:
        host, _, _ = self.headers.get("Host", "").lower().partition(":")
        if host not in OWN_NAMES:
            self.send_error(403, "Not a name of this machine")
            return
        path = unquote(self.path.partition("?")[0])
        try:
            if path == "/models.json":
                records = [model.record for model in models(self._site)]
                content = json.dumps(records).encode()
                self._send(".json", BytesIO(content), len(content))
                return
            found = addresses(self._site).get(path)
        except OlmoError as error:
            self.log_error("%s", error)
            self.send_error(500, "A manifest in dist/ is damaged")
            return
        if found is None or not found.is_file():
            self.send_error(404)
            return
        with found.open("rb") as file:
            self._send(found.suffix, file, found.stat().st_size)

    def _send(self, suffix: str, file: BinaryIO, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(size))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")  # web-llm keeps models itself
        self.end_headers()
        if self.command == "GET":
            shutil.copyfileobj(file, self.wfile)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing of requests that went well; errors are said by `log_error`."""


class Serve(NodeCommand):
    """`doit serve`: chat with the libraries for WebGPU in a browser, until Ctrl-C."""

    only_waits = False
    doc_purpose = "chat with the libraries for webgpu in a browser"
    doc_usage = ""
    cmd_options: ClassVar[Any] = (
        {
            "name": "port",
            "long": "port",
            "type": int,
            "default": PORT,
            "help": f"port of {HOST} to listen on, 0 for any that is free (default: {PORT})",
        },
    )

    def _execute(self, session: Session, port: int, pos_args: list[str]) -> int:
        if pos_args:
            raise InvalidCommand("`serve` takes no tasks: doit serve [--port PORT]")
        return serve(site_of(session, place("web")), port)


def serve(site: Site, port: int) -> int:
    """Serve `site` until Ctrl-C; returns the exit code. Raises as `open_server` does."""
    with open_server(site, port) as server:
        try:
            sys.stdout.write(f"{server.address} (Ctrl-C ends it)\n")
            sys.stdout.flush()
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
    return 0


def site_of(session: Session, packages: Path) -> Site:
    """Return the site of a project, with the packages of npm in the directory `packages`."""
    targets = session.matrix.targets if session.matrix is not None else {}
    return Site(
        session.workspace.root / DIST,
        session.workspace.code_root / "examples" / "web",
        packages,
        frozenset(name for name, target in targets.items() if target.kind == "webgpu"),
    )


def open_server(site: Site, port: int) -> Server:
    """Return a server of `site` that listens already.

    Raises doit's InvalidCommand if there is nothing to chat with, web-llm is not installed, or
    the port cannot be had.
    """
    try:
        offered = models(site)
    except OlmoError as error:
        raise InvalidCommand(message(error)) from None
    if not offered:
        raise InvalidCommand(
            f"{site.dist.name}/ has no library for webgpu\n"
            'hint: put "webgpu" among the targets of a [[release]] in matrix.toml and run doit'
        )
    if not has_packages(site.packages):
        raise InvalidCommand(f"npm @mlc-ai/web-llm is not installed\nhint: run {INSTALL}")
    try:
        return Server(site, port)
    except (OSError, OverflowError) as error:
        raise InvalidCommand(
            f"cannot listen on port {port}: {error}\nhint: doit serve --port 0 takes a free one"
        ) from None
