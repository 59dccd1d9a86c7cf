"""`doit cache push` and `pull`: to and from every kind of server, without a build."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.digest import Digest
from cache.local.survey import survey
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.store import RemoteStore
from tests.cache.servers import SERVERS, Server
from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]
STEPS = {
    "a": Step("A"),
    "b": Step("B" * 1000, ["a"]),
    "c": Step("C", ["a"], keep=1),
    "d": Step("D", ["b", "c"], dist=True),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


Machine = Callable[[str], Project]


@pytest.fixture
def machine(tmp_path: Path, server: Server) -> Machine:
    server.clear()

    def make(name: str) -> Project:
        place = tmp_path / name
        made = Project(place / "project", place / "cache", dict(STEPS))
        made.remote = lambda: connect(server.address, Credentials())
        return made

    return make


def told(project: Project, capsys: Capture, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert project.doit("cache", *arguments, "--json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_what_one_pushed_another_pulls(machine: Machine, capsys: Capture) -> None:
    one, two = machine("one"), machine("two")
    assert one.doit() == 0
    size = sum(len(text or "") for text in one.contents().values())
    assert told(one, capsys, "push") == {
        "results": 4,
        "blobs": 4,
        "bytes": size,
        "there": 0,
        "absent": [],
    }
    again = told(one, capsys, "push")
    assert (again["results"], again["blobs"], again["there"]) == (0, 0, 4)
    part = told(two, capsys, "pull", "step:b")
    assert (part["results"], part["blobs"], part["bytes"]) == (2, 2, 1002)
    rest = told(two, capsys, "pull")
    assert (rest["results"], rest["bytes"], rest["there"]) == (2, size - 1002, 2)
    assert not (two.root / "dist").exists()
    two.remote = None
    assert two.doit() == 0
    assert two.executed() == set()
    assert two.contents() == one.contents()


def test_what_is_not_to_be_had_is_said(machine: Machine, capsys: Capture) -> None:
    one, two = machine("one"), machine("two")
    one.doit("step:c")
    pushed = told(one, capsys, "push")
    assert (pushed["results"], pushed["absent"]) == (2, ["step:b", "step:d"])
    nowhere = "neither on this machine nor in the remote cache"
    assert two.doit("cache", "pull") == 0
    assert capsys.readouterr().out == (
        f"pulled 2 results, 2 blobs, 2 B; 0 were there; 2 {nowhere}\n"
    )
    for project, command, done in ((two, "pull", "pulled"), (one, "push", "pushed")):
        assert project.doit("cache", command, "step:c") == 0
        last = f"{done} 0 results, 0 blobs, 0 B; 2 were there"
        assert capsys.readouterr().out == f"{last}\n"
        assert project.doit("cache", command, "step:d", "step:a") == 1
        assert capsys.readouterr().out.splitlines() == [
            f"step:b: {nowhere}",
            f"step:d: {nowhere}",
            last,
        ]
        assert project.doit("cache", command, "step", "--json") == 1
        assert json.loads(capsys.readouterr().out)["absent"] == ["step:b", "step:d"]


def test_what_is_current_and_no_longer_in_the_store_is_pulled(
    machine: Machine, capsys: Capture
) -> None:
    one = machine("one")
    one.doit()
    told(one, capsys, "push")
    shutil.rmtree(one.cache)
    assert told(one, capsys, "pull")["results"] == 4
    assert len(survey(one.cache).results) == 4


@pytest.mark.parametrize("command", ["push", "pull"])
def test_without_a_remote_cache(tmp_path: Path, capsys: Capture, command: str) -> None:
    project = Project(tmp_path / "project", tmp_path / "cache", dict(STEPS))
    assert project.doit("cache", command) == 3
    assert "there is no remote cache\nhint: set `remote` in [cache]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_server_that_is_gone_is_an_error(tmp_path: Path, capsys: Capture, command: str) -> None:
    project = Project(tmp_path / "project", tmp_path / "cache", dict(STEPS))
    project.doit()
    if command == "pull":
        shutil.rmtree(project.cache)
    project.remote = lambda: connect("http://127.0.0.1:1", Credentials())
    assert project.doit("cache", command) == 2
    shown = capsys.readouterr().err
    assert "http://127.0.0.1:1: Connection refused" in shown
    assert "Traceback" not in shown


def action_of(store: RemoteStore, project: Project, key: Digest) -> dict[str, bytes]:
    """What a server tells other tools of an action: its messages, by what they are."""
    assert store.get_result(key) is not None
    action = reapi.Action.FromString(store.read(key))
    found = {"action": store.read(key), "command": read(store, action.command_digest)}
    root = reapi.Directory.FromString(read(store, action.input_root_digest))
    for file in root.files:
        found[file.name] = read(store, file.digest)
    directories = [root]
    while directories:
        for one in directories.pop().directories:
            found[one.name] = read(store, one.digest)
            directories.append(reapi.Directory.FromString(found[one.name]))
    assert not any(str(project.root).encode() in data for data in found.values())
    return found


def read(store: RemoteStore, digest: Any) -> bytes:
    return store.read(Digest(digest.hash, digest.size_bytes))


@pytest.mark.parametrize("way", ["written", "written by processes", "pushed"])
def test_a_result_brings_what_its_key_stands_for(
    machine: Machine, server: Server, capsys: Capture, way: str
) -> None:
    one = machine("one")
    one.writes = way != "pushed"
    assert one.doit(*(["-n", "2"] if way == "written by processes" else [])) == 0
    if way == "pushed":
        told(one, capsys, "push")
    current = one.session()
    decided = current.decide(lambda _: {})
    with contextlib.closing(connect(server.address, Credentials())) as store:
        for name, assessed in decided.items():
            assert assessed.keyed is not None
            found = action_of(store, one, assessed.keyed.key)
            command = reapi.Command.FromString(found["command"])
            assert list(command.arguments) == ["python", "-m", "toyactions", "toyactions.concat"]
            step = STEPS[name.removeprefix("step:")]
            assert json.loads(found["params.json"])["text"] == step.text
            assert {"inputs"} & found.keys() == ({"inputs"} if step.reads else set())
    local = survey(one.cache)
    assert {digest for result in local.results.values() for digest in result.outputs or ()} == {
        *local.blobs
    }
