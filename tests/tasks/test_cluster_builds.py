"""Nodes that a real cluster runs, in sandboxes: buildbox-casd and its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.trust import Trust
from tests.cache.servers import SERVERS, Executor, executor
from tests.cache.signers import another
from tests.tasks.distant import ROOT, distant
from tests.tasks.toy import Step

STEPS = {
    "a": Step("A", ["one.txt"], remote=True),
    "b": Step("B" * 100_000, ["a"], remote=True, extra=True),
    "c": Step("C", ["a"], remote=True),
    "d": Step("D", ["b", "c"], dist=True),
}
CI = another("ci")
WAITS = {"a": Step("A", ["one.txt"], remote=True, waits=True), "b": Step("B", ["a"], dist=True)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Executor]:
    (tmp_path / "executor").mkdir()
    with executor(tmp_path / "executor") as running:
        yield running


def until(true: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    for _ in range(6000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError


def test_remote_and_local_are_the_same(
    server: Executor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = distant(tmp_path / "there", dict(STEPS))
    assert there.doit("--remote-executor", server.address, "-n", "3") == 0
    assert there.executed() == set(STEPS)
    shown = capsys.readouterr().err
    assert "step:b: it is deep" in shown
    here = distant(tmp_path / "here", dict(STEPS))
    assert here.doit() == 0
    assert here.executed() == set(STEPS)
    assert there.output("d").read_bytes() == here.output("d").read_bytes()
    receipts = [
        {path.name: path.read_bytes() for path in (one.root / "build/receipts/step").iterdir()}
        for one in (there, here)
    ]
    assert receipts[0] == receipts[1]
    assert not there.output("c").exists(), "nobody wanted it"
    assert not there.output("b").exists(), "read where it was needed"


def test_another_machine_finds_what_the_workers_made(
    server: Executor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody wrote it to a cache: the workers' own results are read."""
    steps = {"x": Step("X", ["one.txt"], remote=True, extra=True), "y": Step("Y", ["x"], dist=True)}
    assert distant(tmp_path / "one", dict(steps)).doit("--remote-executor", server.address) == 0
    two = distant(tmp_path / "two", dict(steps))
    capsys.readouterr()
    assert two.doit("--remote-executor", server.address, "step:x") == 0
    assert two.executed() == set()
    assert two.output("x").read_text() == "X1"
    assert "warning" not in capsys.readouterr().err
    two.steps["x"] = Step("X", ["one.txt"], remote=True)
    assert two.doit("--remote-executor", server.address, "-a", "step:x") == 0
    assert two.executed() == {"x"}


@pytest.mark.parametrize("parallel", [[], ["-n", "2"]])
def test_a_failure_is_the_actions_own_and_not_remembered(
    server: Executor, tmp_path: Path, parallel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"T{len(parallel)}"
    steps = {
        "a": Step(text, ["one.txt"], remote=True, fail=True),
        "b": Step("", ["one.txt"], remote=True, fail=True),
    }
    project = distant(tmp_path, steps)
    options = ["--remote-executor", server.address, "--continue", *parallel]
    for _ in range(2):
        assert project.doit(*options) == 1
        shown = capsys.readouterr().err
        assert f" s)\n  {project.source}/one.txt is wrong\n" in shown
        assert "  hint: do it otherwise\n" in shown
        assert f"  the action failed on {server.address} (exit code 1)\n" in shown
        assert "RuntimeError: told to fail" in shown
        assert "Traceback" in (project.root / "build/logs/step/a.log").read_text()
        assert project.executed() == {"a", "b"}


SCRIPT = """
import sys
from pathlib import Path
from tests.tasks.distant import distant
from tests.tasks.test_cluster_builds import WAITS
sys.exit(distant(Path(sys.argv[1]), WAITS).doit(*sys.argv[2:]))
"""


@contextmanager
def started(root: Path, server: Executor, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Build the steps of WAITS in a process of its own, until the first of them waits."""
    (server.gate / "A").unlink(missing_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(root), "--remote-executor", server.address]
    build = subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until((server.gate / "A").exists)
        (server.gate / "A").unlink()
        yield build
    finally:
        build.kill()
        build.communicate()


def finished(build: subprocess.Popen[str]) -> tuple[int, str]:
    _, shown = build.communicate(timeout=120)
    return build.returncode, shown


def test_a_worker_that_is_killed(server: Executor, tmp_path: Path) -> None:
    with started(tmp_path / "p", server) as build:
        (runner,) = server.runners()
        os.kill(runner, signal.SIGKILL)
        until((server.gate / "A").exists)
        (server.gate / "open").touch()
        code, shown = finished(build)
    assert code == 0, shown
    assert distant(tmp_path / "p", WAITS).output("b").read_text() == "BA1"


def test_a_server_that_starts_anew(tmp_path: Path) -> None:
    with executor(tmp_path) as server:
        port = int(server.address.rpartition(":")[2])
        with started(tmp_path / "p", server, "-n", "2") as build:
            server.process.kill()
            server.process.wait()
            (server.gate / "open").touch()
            with executor(tmp_path, port):
                code, shown = finished(build)
    assert code == 0, shown
    assert distant(tmp_path / "p", WAITS).output("b").read_text() == "BA1"


@pytest.mark.parametrize("parallel", [[], ["-n", "2"]])
def test_an_interruption_ends_what_runs_there(
    server: Executor, tmp_path: Path, parallel: list[str]
) -> None:
    with started(tmp_path / "p", server, *parallel) as build:
        assert server.runners()
        build.send_signal(signal.SIGINT)
        code, shown = finished(build)
    assert code == 130, shown
    assert "Traceback" not in shown
    until(lambda: not server.runners())
    (server.gate / "open").touch()
    project = distant(tmp_path / "p", WAITS)
    assert project.doit("--remote-executor", server.address) == 0
    assert project.executed() == {"a", "b"}


def test_what_the_cluster_lost_is_made_again(
    server: Executor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {
        "a": Step("lost A", ["one.txt"], remote=True),
        "b": Step("lost B", ["a"], remote=True),
    }
    project = distant(tmp_path, steps)
    options = ["--remote-executor", server.address]
    assert project.doit(*options) == 0
    assert project.contents() == {"a": None, "b": None}
    for path in (server.files / "cas" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    steps["c"] = Step("C", ["b"], remote=True)
    capsys.readouterr()
    assert project.doit(*options, "step:c") == 0
    assert project.output("c").read_text() == "Clost Blost A1"
    shown = capsys.readouterr().err
    for name in ("a", "b"):
        assert f"step:{name} was made again: its files were lost" in shown


def test_another_cache_beside_the_cluster(
    server: Executor, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the cluster makes comes home then, and goes to the cache from here."""
    steps = {"x": Step("X with a cache", ["one.txt"], remote=True), "y": Step("Y", ["x"])}
    with SERVERS["http"](tmp_path_factory.mktemp("cache")) as cache:
        one, two = (distant(tmp_path / name, dict(steps)) for name in ("one", "two"))
        for project in (one, two):
            project.remote = lambda: connect(cache.address, Credentials())
            project.writes = True
        assert one.doit("--remote-executor", server.address) == 0
        assert one.output("x").read_text() == "X with a cache1"
        assert two.doit() == 0
        assert two.executed() == set()


def test_with_trusted_keys_the_cluster_is_asked_for_no_result_of_others(
    server: Executor, tmp_path: Path
) -> None:
    """Who may write to its action cache would have chosen it; what ran counts as made here."""
    steps = {"x": Step("X", ["one.txt"], remote=True), "y": Step("Y", ["x"], dist=True)}
    options = ["--remote-executor", server.address]
    assert distant(tmp_path / "one", dict(steps)).doit(*options) == 0
    believing = distant(tmp_path / "two", dict(steps))
    assert believing.doit(*options) == 0
    assert believing.executed() == {"y"}
    careful = distant(tmp_path / "three", dict(steps))
    careful.trust = Trust({"ci": CI.public}, CI)
    assert careful.doit(*options, "step:x", "step:y") == 0
    assert careful.executed() == {"x", "y"}
    assert careful.doit(*options, "step:x", "step:y") == 0
    assert careful.executed() == set()
    believing.trust = careful.trust  # it came from that cache before
    assert believing.doit(*options, "step:x") == 0
    assert believing.executed() == {"x"}
