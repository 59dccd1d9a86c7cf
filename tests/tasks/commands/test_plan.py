"""`doit plan`: what a run would do, and for how long."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cache.memory import MemoryTransport
from cache.remote.store import RemoteStore
from tests.schemas import check
from tests.tasks.toy import Project, Step

Said = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every action take 90 seconds."""
    clock = itertools.count(0.0, 90.0)
    monkeypatch.setattr("tasks.realise.time", SimpleNamespace(monotonic=lambda: next(clock)))


def planned(said: Said, *arguments: str) -> Any:
    """The JSON form, which is as the schema says."""
    form = json.loads("\n".join(said("plan", "--json", *arguments)))
    check(form, "plan")
    return form


def test_nothing_to_do(said: Said) -> None:
    assert said("plan") == ["3 nodes: 3 current, 0 cached, 0 remote, 0 stale, 0 waiting, 0 broken"]


def test_what_a_run_would_do(project: Project, said: Said) -> None:
    project.steps["b"] = Step("X", ["a"])
    assert said("plan") == [
        "stale    step:b  1 min 30 s  parameter text B → X",
        "waiting  step:c  1 min 30 s  unknown until step:b is built",
        "3 nodes: 1 current, 0 cached, 0 remote, 1 stale, 1 waiting, 0 broken",
        ("time: 1 min 30 s, up to 3 min if all that waits has to be built; longest chain 3 min"),
    ]
    assert project.contents()["b"] == "BA1"


def test_several_nodes_at_a_time(project: Project, said: Said) -> None:
    project.steps["d"] = Step("D", ["one.txt"])
    project.doit()
    (project.source / "one.txt").write_text("2")
    assert said("plan", "-n", "2", "step:a", "step:d")[-1] == (
        "time: about 1 min 30 s, with -n 2; 3 min of work; longest chain 1 min 30 s"
    )
    assert project.doit("plan", "-n", "0") == 3


def test_what_was_never_timed(project: Project, said: Said) -> None:
    project.steps["d"] = Step("D")
    assert said("plan", "step:d")[-1] == "time: unknown: none of them was timed before"
    project.steps["c"] = Step("X", ["b"])
    assert said("plan")[-1] == (
        "time: about 1 min 30 s; longest chain 1 min 30 s; unknown for 1 node"
    )


def test_what_is_forgotten_would_run(project: Project, said: Said) -> None:
    project.doit("forget", "step:a")
    assert said("plan")[0] == "stale    step:a  1 min 30 s  forgotten: it runs again"


def test_as_json(project: Project, said: Said) -> None:
    assert [node["state"] for node in planned(said)["nodes"]] == ["current"] * 3
    project.steps["b"] = Step("X", ["a"])
    found = planned(said, "-n", "4")
    assert [(node["node"], node["state"], node["causes"]) for node in found["nodes"]] == [
        ("step:a", "current", []),
        ("step:b", "stale", ["parameter text B → X"]),
        ("step:c", "waiting", []),
    ]
    assert [node["key"] is None for node in found["nodes"]] == [False, False, True]
    assert found["states"]["stale"] == found["states"]["waiting"] == 1
    assert found["estimate"] == {
        "jobs": 4,
        "least": {"work": 90.0, "elapsed": 90.0, "chain": 90.0},
        "most": {"work": 180.0, "elapsed": 180.0, "chain": 180.0},
        "unknown": [],
    }


def test_what_is_in_the_remote_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = RemoteStore(MemoryTransport())
    steps = {"a": Step("A" * 100), "b": Step("B", ["a"], dist=True)}
    for name in ("one", "other"):
        project = Project(tmp_path / name / "p", tmp_path / name / "c", dict(steps), lambda: remote)
        project.writes = name == "one"
        if name == "one":
            assert project.doit() == 0
    capsys.readouterr()
    project.doit("plan")
    assert capsys.readouterr().out.splitlines() == [
        "remote  step:a  100 B, left there  never built here",
        "remote  step:b  101 B              never built here",
        "2 nodes: 0 current, 0 cached, 2 remote (101 B to fetch), 0 stale, 0 waiting, 0 broken",
    ]
    project.doit("plan", "--json")
    form = json.loads(capsys.readouterr().out)
    check(form, "plan")
    assert form["fetch_bytes"] == 101
    assert [(one["bytes"], one["wanted"], one["seconds"]) for one in form["nodes"]] == [
        (100, False, 90.0),
        (101, True, 90.0),
    ]
