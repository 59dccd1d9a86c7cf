"""The server of the page: what it answers, with which types, and what it never does."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from doit.exceptions import InvalidCommand

from olmo.wasm.packages import JS, LOCK
from tasks.commands.serve import HOST, Server, open_server
from tasks.site import Site
from tests.tasks.released import PAGE, release, site_in
from tests.tasks.toy import Project

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = site_in(tmp_path)
    release(made.dist, "q0f32")
    return made


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    with Server(site, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def ask(
    server: Server, path: str, method: str = "GET", host: str = HOST
) -> tuple[HTTPResponse, bytes]:
    """Ask for a path exactly as it is written."""
    connection = HTTPConnection(HOST, server.server_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def the_model(server: Server) -> dict[str, str]:
    (record,) = json.loads(ask(server, "/models.json")[1])
    return dict(record)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/?a=b", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/chat.js", "text/javascript; charset=utf-8"),
        ("/worker.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/web-llm/index.js", "text/javascript; charset=utf-8"),
        ("/models.json", "application/json"),
    ],
)
def test_types(server: Server, path: str, kind: str) -> None:
    response, content = ask(server, path)
    assert response.status == 200
    assert response.headers["Content-Type"] == kind
    assert response.headers["Content-Length"] == str(len(content))
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_the_page_is_that_of_the_repository(server: Server) -> None:
    assert ask(server, "/")[1] == (PAGE / "index.html").read_bytes()


def test_a_model_is_where_its_record_says(server: Server) -> None:
    record = the_model(server)
    library, content = ask(server, record["model_lib"])
    assert (library.headers["Content-Type"], content) == ("application/wasm", b"\0asm")
    config, content = ask(server, record["model"] + "mlc-chat-config.json")
    assert (config.headers["Content-Type"], content) == ("application/json", b"{ }\n")
    shard, content = ask(server, record["model"] + "params_shard_0.bin")
    assert (shard.headers["Content-Type"], content) == ("application/octet-stream", b"weights")


def test_what_is_built_later_is_served_too(server: Server, site: Site) -> None:
    old = the_model(server)
    release(site.dist, "q0f32", weights=b"other")
    assert ask(server, the_model(server)["model"] + "params_shard_0.bin")[1] == b"other"
    assert ask(server, old["model"] + "params_shard_0.bin")[0].status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/..\\secret",
        "//secret",
        "/style.css/../../secret",
        "/web-llm/../../../../../../secret",
        "{model}../../../../../secret",
        "{model}..%2f..%2f..%2f..%2fsecret",
        "{model}/etc/passwd",
        "{model}",
        "/etc/passwd",
        "/models/",
        "/web-llm/",
        "/dist/libs/",
        "/%00",
        "//[",
    ],
)
def test_nothing_else_can_be_read(server: Server, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    response, content = ask(server, path.replace("{model}", the_model(server)["model"]))
    assert response.status == 404
    assert b"secret" not in content


def test_a_file_that_is_gone_is_not_found(server: Server, site: Site) -> None:
    record = the_model(server)
    (site.dist / "tiny-q0f32-MLC" / "params_shard_0.bin").unlink()
    assert ask(server, record["model"] + "params_shard_0.bin")[0].status == 404


def test_head_has_no_body(server: Server) -> None:
    response, content = ask(server, "/style.css", "HEAD")
    assert response.status == 200
    assert int(response.headers["Content-Length"]) > 0
    assert content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(server: Server, method: str) -> None:
    assert ask(server, "/", method)[0].status == 501


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "["]
)
def test_names_of_others_are_refused(server: Server, host: str) -> None:
    assert ask(server, "/models.json", host=host)[0].status == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:1", "LOCALHOST"])
def test_own_names_are_answered(server: Server, host: str) -> None:
    assert ask(server, "/models.json", host=host)[0].status == 200


def test_a_damaged_manifest_is_an_error_of_the_server(
    server: Server, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    (site.dist / "libs" / "tiny-q0f32-webgpu.json").write_text("{")
    assert ask(server, "/models.json")[0].status == 500
    assert "tiny-q0f32-webgpu.json" in capfd.readouterr().err


def installed(site: Site) -> None:
    for name in LOCK:
        (site.packages / name).write_bytes((JS / name).read_bytes())
    (site.packages / "node_modules" / ".package-lock.json").touch()


def test_without_libraries_it_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidCommand, match=r'no library for webgpu\nhint: put "webgpu" among'):
        open_server(site_in(tmp_path), 0)


def test_it_is_a_command_of_doit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(tmp_path / "project", tmp_path / "cache")
    assert project.doit("serve", "--port", "0") == 3
    assert "no library for webgpu" in capsys.readouterr().err
    assert project.doit("serve", "task") == 3
    assert "takes no tasks" in capsys.readouterr().err


def test_without_web_llm_it_says_how_to_install_it(site: Site) -> None:
    with pytest.raises(
        InvalidCommand, match=r"not installed\nhint: run python3 bootstrap\.py verify"
    ):
        open_server(site, 0)


def test_a_port_that_is_taken_is_named(site: Site) -> None:
    installed(site)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidCommand, match=rf"port {port}.*\nhint: doit serve --port 0"):
            open_server(site, port)
    with pytest.raises(InvalidCommand, match="port 70000"):
        open_server(site, 70000)


def test_it_listens_on_this_machine_alone(site: Site) -> None:
    installed(site)
    with open_server(site, 0) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


SCRIPT = """
import sys
from pathlib import Path
from tasks.commands.serve import serve
from tests.tasks.released import release, site_in
from tests.tasks.commands.test_serve import installed

site = site_in(Path(sys.argv[1]))
release(site.dist, "q0f32")
installed(site)
sys.exit(serve(site, 0))
"""


def test_interrupting_it_ends_it_cleanly(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert "http://127.0.0.1:" in child.stdout.readline()
        os.kill(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
