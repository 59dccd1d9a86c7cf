"""Real servers on loopback, each for as long as a `with` block."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

CASD = shutil.which("buildbox-casd") or shutil.which(
    "buildbox-casd", path=str(Path(__file__).parents[2] / ".ci" / "tools")
)

NGINX_CONFIG = """
daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{
    listen 127.0.0.1:{port} {tls}; root {place}/files; {more}
    location ~ "^/(ac|cas)/[0-9a-f]{{64}}$" {{
      dav_methods PUT; create_full_put_path on; dav_access user:rw group:r all:r;
    }}
    location / {{ return 403; }}
  }}
}}
"""


def _ports() -> Iterator[int]:
    """Ports that the system gives nobody who asks for any, apart from those of other workers of pytest."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first, count = 10_000 + worker % 40 * 500, 500
    return itertools.cycle(first + (os.getpid() + number) % count for number in range(count))


_PORTS = _ports()


def free_port() -> int:
    """Return a port on which nobody listens, nor will before its server has started."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("ports do not end")


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that is ready once it listens."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
        )
    try:
        for _ in range(3000):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            threading.Event().wait(0.02)
        else:
            raise AssertionError(log.read_text())
        yield process
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Server:
    """A running server, its files, and how to make it forget everything."""

    address: str
    files: Path
    clear: Callable[[], None]


@contextlib.contextmanager
def nginx(place: Path, *, tls: str = "", more: str = "") -> Iterator[Server]:
    """Bazel's HTTP cache, in `place / "files"`."""
    if NGINX is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    port = free_port()
    for name in ("files/ac", "files/cas"):
        (place / name).mkdir(parents=True)
    config = place / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(place=place, port=port, tls=tls, more=more))
    command = [NGINX, "-p", str(place), "-c", str(config), "-e", str(place / "error.log")]
    files = place / "files"

    def clear() -> None:
        for name in ("ac", "cas"):
            shutil.rmtree(files / name)
            (files / name).mkdir()

    with running(command, port, place / "output"):
        yield Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", files, clear)


@contextlib.contextmanager
def casd(place: Path) -> Iterator[Server]:
    """The Remote Execution API, with its files in `place / "files"`."""
    if CASD is None:
        pytest.skip("needs buildbox-casd (.ci/buildbox)")
    port, files = free_port(), place / "files"
    command = [CASD, f"--bind=127.0.0.1:{port}", str(files)]

    def clear() -> None:
        for path in files.rglob("*"):
            if path.is_file() and re.fullmatch("[0-9a-f]{62,}", path.name):
                path.unlink()

    with running(command, port, place / "output"):
        yield Server(f"grpc://127.0.0.1:{port}", files, clear)


@dataclass(frozen=True)
class Executor:
    """A running server that executes actions, and the process.

    What is in `gate`, actions find in /gate: there they can say that they have begun, and be told
    to end.
    """

    address: str
    files: Path
    gate: Path
    process: subprocess.Popen[bytes]

    def runners(self) -> list[int]:
        """Return the process ids of the workers that run an action now."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(child) for file in children for child in file.read_text().split()]
        return [pid for pid in pids if _name(pid) == "buildbox-run"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has ended meanwhile
        return ""


def sandbox() -> str | None:
    """Return why actions cannot be executed on this machine, None if they can."""
    if CASD is None or not Path(CASD).with_name("buildbox-run").exists():
        return "needs buildbox-casd and buildbox-run (.ci/buildbox)"
    if shutil.which("bwrap") is None:
        return "needs bwrap (Debian: bubblewrap)"
    probe = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"needs user namespaces ({done.stderr.strip()})" if done.returncode else None


def _mounts(gate: Path) -> Iterator[str]:
    """What workers see: the system, and this Python environment as /opt/olmill, without the project."""
    for place in ("/usr", "/bin", "/lib", "/lib64", "/etc"):
        if Path(place).exists():
            yield f"--ro-bind-mount={Path(place).resolve()}:{place}"
    yield f"--ro-bind-mount={sys.prefix}:/opt/olmill"
    project = Path(__file__).parents[2]
    for place in {sys.base_prefix, *sys.path}:
        seen = any(Path(place).is_relative_to(there) for there in ("/usr", sys.prefix))
        if not seen and Path(place).is_dir() and Path(place) != project:
            yield f"--ro-bind-mount={place}:{place}"
    yield f"--bind-mount={gate}:/gate"


@contextlib.contextmanager
def executor(place: Path, port: int = 0) -> Iterator[Executor]:
    """The Remote Execution API with Execute, with its files in `place / "files"`."""
    why = sandbox()
    if why is not None:
        pytest.skip(why)
    assert CASD is not None
    tools, gate, port = Path(CASD).parent, place / "gate", port or free_port()
    gate.mkdir(exist_ok=True)
    command = [CASD, f"--bind=127.0.0.1:{port}", f"--buildbox-run={tools / 'buildbox-run'}"]
    command += [f"--runner-arg={mount}" for mount in _mounts(gate)]
    command.append("--runner-arg=--staging-mode=copy-or-link")  # mounts would outlive a kill
    command += ["--jobs=2", "--cache-failures=false", str(place / "files")]
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    with running(command, port, place / "output", environment) as process:
        yield Executor(f"grpc://127.0.0.1:{port}", place / "files", gate, process)


@contextlib.contextmanager
def moto(place: Path) -> Iterator[Server]:
    """S3, in the memory of the server; the AWS_* variables lead to it meanwhile."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("needs moto (extra test)")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def ask(method: str, path: str) -> None:
        request = urllib.request.Request(url + path, method=method)  # noqa: S310  our own server
        urllib.request.urlopen(request).close()  # noqa: S310  our own server

    def clear() -> None:
        ask("POST", "/moto-api/reset")
        ask("PUT", "/a-bucket")

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with pytest.MonkeyPatch.context() as patch, running(command, port, place / "output"):
        for name, value in variables.items():
            patch.setenv(name, value)
        clear()
        yield Server("s3://a-bucket/some/prefix", place, clear)


SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Server]]] = {
    "http": nginx,
    "grpc": casd,
    "s3": moto,
}
