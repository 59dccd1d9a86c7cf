"""How long actions ran is known later: here, and wherever their results are found."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from doit.dependency import Dependency

from cache.memory import MemoryTransport
from cache.remote.store import RemoteStore
from tasks.durations import durations
from tasks.state import StateDB
from tests.tasks.toy import Project, Step

STEPS = {
    "a": Step("A", ["one.txt"]),
    "b": Step("B", ["a"], batch=True),
    "c": Step("C", ["a"], batch=True),
}


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at the clock take ten seconds."""
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr("tasks.realise.time", SimpleNamespace(monotonic=lambda: next(clock)))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return machine(tmp_path / "first", RemoteStore(MemoryTransport()))


def machine(place: Path, remote: RemoteStore) -> Project:
    made = Project(place / "project", place / "cache", dict(STEPS), lambda: remote, writes=True)
    (made.source / "one.txt").write_text("1")
    return made


def known(project: Project, *, decide: bool = True) -> dict[str, float]:
    """Durations by step, as a command has them."""
    state = Dependency(StateDB, str(project.root / "build/state.sqlite"))
    session = project.session()
    if decide:
        session.decide(state.get_values)
    found = durations(session, state.backend)
    state.close()
    return {name.removeprefix("step:"): seconds for name, seconds in found.items()}


def test_of_what_was_never_built_nothing_is_known(project: Project) -> None:
    assert known(project) == {}


def test_nodes_of_one_run_have_equal_shares(project: Project) -> None:
    project.doit()
    assert known(project) == {"a": 10.0, "b": 5.0, "c": 5.0}


def test_it_is_known_of_what_has_to_be_built_again(project: Project) -> None:
    project.doit()
    project.steps["a"] = Step("X", ["one.txt"])
    assert known(project) == {"a": 10.0, "b": 5.0, "c": 5.0}
    project.steps["a"] = Step("X", ["one.txt"], fail=True)
    project.doit("--continue")
    project.doit("forget")
    assert known(project) == {"a": 10.0, "b": 5.0, "c": 5.0}


def test_it_comes_with_results_of_others(project: Project, tmp_path: Path) -> None:
    project.doit()
    assert project.remote is not None
    other = machine(tmp_path / "other", project.remote())
    assert known(other) == {"a": 10.0, "b": 5.0, "c": 5.0}
    other.doit()
    assert other.executed() == set()
    assert known(other, decide=False) == {"a": 10.0, "b": 5.0, "c": 5.0}


def test_nodes_that_are_no_more_are_left_out(project: Project) -> None:
    project.doit()
    del project.steps["c"]
    assert known(project) == {"a": 10.0, "b": 5.0}
