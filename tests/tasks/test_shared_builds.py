"""Machines that share a remote cache: what one has built, no other builds again, nor moves in vain."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from cache.digest import Digest
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.http_transport import HttpTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from cache.remote.transport import Transport
from tests.cache.servers import SERVERS, Server
from tests.tasks.toy import Project, Step

STEPS = {
    "a": Step("A", ["one.txt"]),
    "b": Step("B" * 1000, ["a"]),
    "c": Step("C", ["a"], keep=1),
    "d": Step("D", ["b", "c"], dist=True),
}
ROOT = Path(__file__).resolve().parents[2]
PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with SERVERS["http"](tmp_path_factory.mktemp("http")) as running:
        yield running


Machine = Callable[..., Project]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return what makes a machine: a project and a cache of its own."""

    def make(name: str, address: str, *, writes: bool = False) -> Project:
        place = tmp_path / name
        made = Project(place / "project", place / "cache", dict(STEPS))
        made.remote = lambda: connect(address, Credentials())
        made.writes = writes
        (made.source / "one.txt").write_text("1")
        return made

    return make


class Counting:
    """A transport that counts the bytes of blobs that come through another one."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.address, self.forks, self.write_once = inner.address, inner.forks, inner.write_once
        self.bytes = 0

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        return self.inner.missing(digests)

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        for part in self.inner.receive(digest, offset):
            self.bytes += len(part)
            yield part

    def send(self, digest: Digest, source: BinaryIO) -> None:
        self.inner.send(digest, source)

    def get_entry(self, key: Digest) -> bytes | None:
        return self.inner.get_entry(key)

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        return self.inner.get_entries(keys)

    def receive_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        for digest, data in self.inner.receive_many(digests):
            self.bytes += len(data)
            yield digest, data

    def send_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        return self.inner.send_many(digests, read)

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        return self.inner.put_entry(key, entry, replace=replace)

    def close(self) -> None:
        self.inner.close()


def counted(project: Project) -> Counting:
    """Count the bytes that a project fetches."""
    assert project.remote is not None
    store = project.remote()
    counting = Counting(store._transport)
    store._transport = counting
    project.remote = lambda: store
    return counting


SCRIPT = """
import sys
from pathlib import Path
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from tests.tasks.test_shared_builds import STEPS
from tests.tasks.toy import Project

root, cache, address = sys.argv[1:]
project = Project(Path(root), Path(cache), STEPS, lambda: connect(address, Credentials()), True)
sys.exit(project.doit("-n", "2"))
"""


def start(project: Project, address: str) -> subprocess.Popen[str]:
    """Build a project in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(project.root), str(project.cache), address],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("parallel", PARALLEL)
def test_what_one_machine_built_no_other_builds(
    server: Server, machine: Machine, parallel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.clear()
    one = machine("one", server.address, writes=True)
    assert one.doit(*parallel) == 0
    assert one.executed() == set(STEPS)
    two = machine("two", server.address)
    capsys.readouterr()
    assert two.doit(*parallel) == 0
    assert two.executed() == set()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("plan: 4 nodes, 0 cached, 4 remote (")
    assert lines[-1].startswith("4 nodes: 0 local, 4 remote, 0 built (")
    assert two.output("d").read_bytes() == one.output("d").read_bytes()
    assert two.doit(*parallel) == 0
    assert two.executed() == set()


def test_only_what_is_asked_for_is_fetched(http: Server, machine: Machine) -> None:
    http.clear()
    one = machine("one", http.address, writes=True)
    one.doit()
    two = machine("two", http.address)
    moved = counted(two)
    for command in (["plan"], ["status"], ["why", "step:d"], ["--no-dist"]):
        assert two.doit(*command) == 0
    assert moved.bytes == 0
    assert set(two.contents().values()) == {None}
    assert two.doit("step:c") == 0
    assert moved.bytes == len("C")
    assert two.output("c").read_text() == "C"
    assert two.doit() == 0
    assert two.output("d").read_bytes() == one.output("d").read_bytes()
    assert moved.bytes == len("C") + one.output("d").stat().st_size
    assert not two.output("b").exists()
    assert two.executed() == set()


def test_an_action_that_runs_has_its_inputs_fetched(http: Server, machine: Machine) -> None:
    http.clear()
    machine("one", http.address, writes=True).doit()
    two = machine("two", http.address)
    two.steps["d"] = Step("X", ["c"], dist=True)
    moved = counted(two)
    assert two.doit() == 0
    assert two.executed() == {"d"}
    assert two.output("d").read_text() == "XC"
    assert moved.bytes == len("C")


def test_a_machine_that_may_not_write_does_not(http: Server, machine: Machine) -> None:
    http.clear()
    machine("one", http.address).doit()
    two = machine("two", http.address)
    two.doit()
    assert two.executed() == set(STEPS)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_what_the_cache_lost_is_made_again(
    http: Server, machine: Machine, parallel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The blob goes after its result was believed: while nothing needed it."""
    http.clear()
    one = machine("one", http.address, writes=True)
    one.doit()
    two = machine("two", http.address, writes=True)
    assert two.doit("--no-dist") == 0
    assert two.executed() == set()
    shutil.rmtree(http.files / "cas")
    (http.files / "cas").mkdir()
    two.steps["d"] = Step("X", ["b"], dist=True)
    capsys.readouterr()
    assert two.doit(*parallel) == 0
    assert two.output("d").read_text() == "X" + one.output("b").read_text()
    shown = capsys.readouterr().err
    assert "step:b was made again: its files were lost" in shown
    assert "is not there" in shown


GONE = "http://127.0.0.1:1"


def gone() -> RemoteStore:
    backoff = Backoff(sleep=lambda _: None)
    return RemoteStore(RetryingTransport(HttpTransport(GONE, Credentials()), backoff))


def test_a_server_that_is_gone_is_said_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    one = machine("one", GONE, writes=True)
    one.remote = gone
    assert one.doit() == 0
    assert one.executed() == set(STEPS)
    shown = capsys.readouterr().err
    assert len(re.findall("http://127.0.0.1:1: Connection refused.*going on without", shown)) == 1
    assert "0 remote, 4 built" in shown.splitlines()[-1]


def test_a_server_that_is_gone_is_an_error_where_it_is_required(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    one = machine("one", GONE)
    one.remote = gone
    assert one.doit("--require-remote") == 2
    shown = capsys.readouterr().err
    assert "error: http://127.0.0.1:1: Connection refused" in shown
    assert "hint: " in shown
    assert "Traceback" not in shown


def test_two_machines_at_once(server: Server, machine: Machine) -> None:
    """Each with two processes: no corruption, and each builds no node more than once."""
    server.clear()
    machines = [machine(name, server.address, writes=True) for name in ("one", "two")]
    with contextlib.ExitStack() as running:
        for process in [running.enter_context(start(one, server.address)) for one in machines]:
            _, shown = process.communicate()
            assert process.returncode == 0, shown
    one, two = machines
    assert one.output("d").read_bytes() == two.output("d").read_bytes()
    for project in machines:
        assert project.runs() <= len(STEPS)
    three = machine("three", server.address)
    three.doit()
    assert three.executed() == set()
    assert three.output("d").read_bytes() == one.output("d").read_bytes()


def test_what_is_lost_during_a_run_that_may_build_nothing_is_not_built(
    http: Server, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    http.clear()
    one, two = machine("one", http.address, writes=True), machine("two", http.address)
    for project in (one, two):
        project.steps = {name: replace(step, remote=True) for name, step in STEPS.items()}
        actions = project.root / "toyactions"
        shutil.copyfile(actions / "concat.py", actions / "distant.py")
    one.doit()
    cas = http.files / "cas"
    for blob in cas.iterdir():  # the presence of blobs is asked for, their bytes are not
        blob.chmod(0o644)
        blob.write_bytes(bytes(blob.stat().st_size))
    two.runs()
    nowhere = ("--remote-executor", "grpc://127.0.0.1:1")  # it is not asked, either
    assert two.doit("--require-cached", *nowhere) == 1
    assert "the cache lost its result meanwhile" in capsys.readouterr().err
    assert two.runs() == 0


def test_two_processes_of_a_machine_and_another_machine_at_once(
    server: Server, machine: Machine
) -> None:
    """Two projects of one machine share its cache: each node is executed once for both of them."""
    server.clear()
    one, other = (machine(name, server.address, writes=True) for name in ("one", "other"))
    beside = Project(one.root.parent / "beside", one.cache, dict(STEPS))
    (beside.source / "one.txt").write_text("1")
    processes = [start(project, server.address) for project in (one, beside, other)]
    for process in processes:
        _, shown = process.communicate()
        assert process.returncode == 0, shown
    assert one.runs() + beside.runs() <= len(STEPS)
    assert other.runs() <= len(STEPS)
    three = machine("three", server.address)
    three.doit()
    assert three.executed() == set()
    made = {project.output("d").read_bytes() for project in (one, beside, other, three)}
    assert len(made) == 1
