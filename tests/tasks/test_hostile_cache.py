"""Whatever a remote cache answers, the artifacts are right: rebuilt, or refused with a message."""

import itertools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache import digest as digests
from cache import sealing, wire
from cache.action import ActionResult, encode_result
from cache.digest import Digest
from cache.remote.credentials import Credentials
from cache.remote.http_transport import HttpTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from tests.cache.hostile import Hostile, Request, hostile, response
from tests.tasks.toy import Project, Step

STEPS = {"a": Step("A", ["one.txt"]), "b": Step("B" * 100, ["a"], dist=True)}
RIGHT = "B" * 100 + "A1"
EVIL = b"evil"
EVIL_DIGEST = digests.of_bytes(EVIL)
HUGE = Digest(EVIL_DIGEST.hash, 1 << 60)

Parts = Iterator[bytes]


def cut(*parts: bytes) -> Parts:
    """Answer with this, and cut the connection."""
    return iter(parts)


def endless(_: bytes) -> Parts:
    yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    yield from itertools.repeat(bytes(1 << 16))


def endless_headers(_: bytes) -> Parts:
    yield b"HTTP/1.1 200 OK\r\n"
    yield from itertools.repeat(b"X-Header: " + b"x" * 1000 + b"\r\n")


def endless_line(_: bytes) -> Parts:
    yield from itertools.repeat(b"x" * 1000)


def endless_chunks(_: bytes) -> Parts:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from itertools.repeat(b"10000\r\n" + bytes(1 << 16) + b"\r\n")


ANY = {
    "nothing": lambda _: cut(),
    "no HTTP": lambda _: cut(b"\0\1\2\3 hello\r\n\r\n"),
    "no status": lambda _: cut(b"HTTP/1.1 abc\r\n\r\n"),
    "size without sense": lambda data: cut(
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", data[:2]
    ),
    "endless": endless,
    "endless headers": endless_headers,
    "endless line": endless_line,
    "endless chunks": endless_chunks,
    "truncated": lambda data: cut(response(data[: len(data) // 2], size=len(data))),
    "truncated chunks": lambda _: cut(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"
    ),
    "shorter": lambda data: cut(response(data[: len(data) // 2])),
    "longer": lambda data: cut(response(data + b"x")),
    "huge declared size": lambda data: cut(response(data, size=1 << 62)),
    "wrong bytes": lambda data: cut(response(data[::-1])),
    "a part nobody asked for": lambda data: cut(response(data[1:], "206 Partial Content")),
    "broken": lambda _: cut(response(status="500 Internal Server Error")),
    "forbidden": lambda _: cut(response(status="403 Forbidden")),
    "too many": lambda _: cut(
        response(status="429 Too Many Requests", headers="Retry-After: 999999\r\n")
    ),
    "terminal codes": lambda _: cut(response(status="403 \x1b]0;x\x07\x1b[2J\x9b")),
    "teapot": lambda _: cut(response(status="418 I'm a teapot")),
    "to itself": lambda _: cut(response(status="302 Found", headers="Location: ?\r\n")),
    "to a file": lambda _: cut(
        response(status="302 Found", headers="Location: file:///etc/passwd\r\n")
    ),
    "to nowhere": lambda _: cut(
        response(status="307 Temporary Redirect", headers="Location: http://[::\r\n")
    ),
}


def output(path: str, digest: Digest = EVIL_DIGEST) -> bytes:
    return wire.field(2, wire.field(1, path.encode()) + wire.field(2, digests.encode(digest)))


def sealed(key: Digest, message: bytes) -> bytes:
    """A message with the seal that it would have if it were a result."""
    seal = sealing._seal_of(key, message)
    metadata = wire.field(1, sealing._SEAL_TYPE) + wire.field(2, seal)
    return message + wire.field(9, wire.field(11, metadata))


FORGED = {
    "garbage": b"\xff" * 50,
    "nothing": b"",
    "no outputs": wire.field(5, b"stdout"),
    "up": output("../x"),
    "far up": output("outputs/../../../../../../tmp/x"),
    "absolute": output("/tmp/x"),  # noqa: S108  nobody writes there
    "outside the outputs": output("params.json"),
    "symlink": wire.field(12, wire.field(1, b"outputs/out.txt") + wire.field(2, b"/etc/passwd")),
    "and a symlink": output("outputs/out.txt")
    + wire.field(10, wire.field(1, b"outputs/x") + wire.field(2, b"/etc/passwd")),
    "twice": output("outputs/out.txt") * 2,
    "case": output("outputs/out.txt") + output("outputs/OUT.txt"),
    "inside a file": output("outputs/out.txt") + output("outputs/out.txt/x"),
    "control characters": output("outputs/out\n.txt"),
    "missing blob": output("outputs/out.txt", digests.of_bytes(b"nowhere")),
    "huge blob": output("outputs/out.txt", HUGE),
    "failed": output("outputs/out.txt") + wire.varint(4 << 3) + wire.varint(1),
    "no digest": wire.field(2, wire.field(1, b"outputs/out.txt")),
}


@dataclass
class World:
    """A server that an honest machine filled, the keys of its results, and another machine."""

    server: Hostile
    keys: dict[str, Digest]
    project: Project


def machine(
    place: Path, address: str, keys: dict[str, Digest], *, writes: bool, seconds: float = 30.0
) -> Project:
    project = Project(place / "project", place / "cache", dict(STEPS), writes=writes)
    (project.source / "one.txt").write_text("1")
    transport = HttpTransport(address, Credentials("secret"), seconds)
    backoff = Backoff(attempts=2, sleep=lambda _: None)
    store = RemoteStore(RetryingTransport(transport, backoff))
    put_results = store.put_results

    def remember(results: Mapping[Digest, ActionResult]) -> None:
        keys.update({key.hash: key for key in results})
        put_results(results)

    store.put_results = remember  # type: ignore[method-assign]  # to learn the keys
    project.remote = lambda: store
    return project


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Digest]]:
    keys: dict[str, Digest] = {}
    with hostile() as server:
        project = machine(tmp_path_factory.mktemp("honest"), server.address, keys, writes=True)
        assert project.doit() == 0
    evil = {f"/cas/{digest.hash}": EVIL for digest in (EVIL_DIGEST, HUGE)}
    return {**server.files, **evil}, keys


@pytest.fixture
def world(tmp_path: Path, honest: tuple[dict[str, bytes], dict[str, Digest]]) -> Iterator[World]:
    files, keys = honest
    with hostile() as server:
        server.files = dict(files)
        yield World(server, keys, machine(tmp_path, server.address, {}, writes=False))


def check(world: World, capsys: pytest.CaptureFixture[str]) -> str:
    """Build before the hostile server; returns what was said."""
    capsys.readouterr()
    assert world.project.doit() == 0
    assert world.project.output("b").read_text() == RIGHT
    assert sorted(path.name for path in world.project.root.rglob("*.txt")) == [
        "one.txt",
        *["out.txt"] * (1 + world.project.output("a").exists()),
    ]
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "".join(shown.splitlines()).isprintable()
    assert "secret" not in shown
    return shown


def test_an_honest_server_is_believed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "warning" not in check(world, capsys)
    assert world.project.executed() == set()


@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("place", ["/cas/", "/ac/"])
def test_any_answer(
    world: World, capsys: pytest.CaptureFixture[str], place: str, name: str
) -> None:
    def attack(request: Request) -> Parts | None:
        if request.method != "GET" or not request.path.startswith(place):
            return None
        return ANY[name](world.server.files[request.path])

    world.server.attack = attack
    shown = check(world, capsys)
    assert f"warning: {world.server.address}: " in shown
    assert "b" in world.project.executed()


@pytest.mark.parametrize("place", ["/cas/", "/ac/"])
def test_a_slow_drip(
    tmp_path: Path,
    honest: tuple[dict[str, bytes], dict[str, Digest]],
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    """Never silent for long, and never done."""
    ended = threading.Event()
    with hostile() as server:
        server.files = dict(honest[0])

        def attack(request: Request) -> Parts | None:
            if request.method != "GET" or not request.path.startswith(place):
                return None
            return drip()

        def drip() -> Parts:
            yield b"HTTP/1.1 200 OK\r\n"
            while not ended.wait(0.01):
                yield b"X"

        server.attack = attack
        project = machine(tmp_path, server.address, {}, writes=False, seconds=1.0)
        shown = check(World(server, {}, project), capsys)
        assert "gives no answer in time: going on without the remote cache" in shown
        assert "b" in project.executed()
        ended.set()


@pytest.mark.parametrize("name", ANY)
def test_any_answer_to_an_upload(
    world: World, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What was built is right, also where it could not be given to others."""
    world.project.writes = True
    world.server.files.clear()
    world.server.attack = lambda request: (
        ANY[name](request.body) if request.method == "PUT" else None
    )
    assert "nothing more is written to the remote cache" in check(world, capsys)
    assert world.project.executed() == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "seal"), [*((name, True) for name in FORGED), ("garbage", False), ("case", False)]
)
def test_forged_results(
    world: World, capsys: pytest.CaptureFixture[str], name: str, seal: bool
) -> None:
    for path in [path for path in world.server.files if path.startswith("/ac/")]:
        key = world.keys[path.removeprefix("/ac/")]
        world.server.files[path] = sealed(key, FORGED[name]) if seal else FORGED[name]
    shown = check(world, capsys)
    assert world.project.executed() == {"a", "b"}
    evicted = seal and name in ("missing blob", "huge blob")  # or so it seems: an ordinary miss
    assert evicted or "warning: " in shown


def test_a_result_of_another_key(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = [path for path in world.server.files if path.startswith("/ac/")]
    files = world.server.files
    files[one], files[two] = files[two], files[one]
    assert "not sealed for this action" in check(world, capsys)
    assert world.project.executed() == {"a", "b"}


def test_blobs_that_are_promised_and_missing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """HEAD says they are there, GET that they are not."""
    world.server.attack = lambda request: (
        cut(response(status="404 Not Found"))
        if request.method == "GET" and request.path.startswith("/cas/")
        else None
    )
    assert "is not there" in check(world, capsys)
    assert "b" in world.project.executed()


def test_a_blob_that_fits_on_no_disk(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before a byte of it is read: it would not fit if it were built, either."""
    for path in [path for path in world.server.files if path.startswith("/ac/")]:
        key = world.keys[path.removeprefix("/ac/")]
        world.server.files[path] = sealed(key, output("outputs/out.txt", HUGE))
    world.server.attack = lambda request: (
        cut(b"HTTP/1.1 200 OK\r\n\r\n") if request.method == "HEAD" else None
    )
    world.server.asked.clear()
    assert world.project.doit() == 1
    assert "does not fit" in capsys.readouterr().err
    assert not world.project.output("b").exists()
    assert not any(one.method == "GET" and "/cas/" in one.path for one in world.server.asked)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_stay_with_their_host(
    world: World, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    with hostile() as other:
        other.files.update(world.server.files)
        world.server.attack = lambda request: cut(
            response(status=f"{status} x", headers=f"Location: {other.address}{request.path}\r\n")
        )
        check(world, capsys)
        assert world.project.executed() == set()
        assert world.server.asked
        assert all(one.headers["authorization"] == "Bearer secret" for one in world.server.asked)
        assert other.asked
        assert not any("authorization" in one.headers for one in other.asked)


def test_nothing_is_uploaded_to_where_a_redirect_leads(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.project.writes = True
    world.server.files.clear()
    with hostile() as other:
        world.server.attack = lambda request: (
            cut(response(status="307 x", headers=f"Location: {other.address}{request.path}\r\n"))
            if request.method == "PUT"
            else None
        )
        assert "nothing more is written to the remote cache" in check(world, capsys)
        assert not other.asked


def test_forged_seals_are_forged_well() -> None:
    """`sealed` makes what the store itself would."""
    key = digests.of_bytes(b"key")
    result = ActionResult({"outputs/out.txt": EVIL_DIGEST})
    assert sealed(key, encode_result(result)) == sealing.seal_message(key, result)
