"""Nodes that one run of an action can make together: how often it runs, and that nothing else differs."""

from pathlib import Path

import pytest

from cache.action import ActionResult
from cache.digest import Digest
from cache.local.store import LocalStore
from tasks.board import Board
from tests.tasks.toy import Project, Step

PARALLEL = [[], ["-n", "4"], ["-n", "2", "-P", "thread"]]
BATCH = {
    "first": Step("F", ["one.txt"]),
    "a": Step("A", ["first"], batch=True),
    "b": Step("B", ["first"], batch=True),
    "c": Step("C", ["first"], batch=True),
    "other": Step("O", ["one.txt"], batch=True),
    "last": Step("L", ["a", "b", "c"]),
}
MADE = {"first": "F1", "a": "AF1", "b": "BF1", "c": "CF1", "other": "O1", "last": "LAF1BF1CF1"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", tmp_path / "cache", dict(BATCH))
    (made.source / "one.txt").write_text("1")
    return made


@pytest.mark.parametrize("parallel", PARALLEL)
def test_one_run_makes_them_all(project: Project, parallel: list[str]) -> None:
    assert project.doit(*parallel) == 0
    assert project.contents() == MADE
    assert project.executed() == set(BATCH)
    assert project.runs() == 4
    assert project.doit(*parallel) == 0
    assert project.executed() == set()


@pytest.mark.parametrize("parallel", PARALLEL)
def test_each_has_its_line(
    project: Project, parallel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    project.doit(*parallel)
    lines = capsys.readouterr().err.splitlines()
    for name in BATCH:
        assert sum(line == f"start  step:{name}" for line in lines) == 1
        assert sum(line.startswith(f"built  step:{name} (") for line in lines) == 1
    beside = [line for line in lines if "(with step:" in line]
    assert len(beside) == 2
    assert lines[-1].startswith("6 nodes: 0 local, 0 remote, 6 built (")


def test_what_is_made_with_another_is_known_to_be_before_it_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks in between would say that it was there before the run."""
    events = []
    made, put = Board.made, LocalStore.put_result

    def announce(board: Board, name: str, by: str) -> None:
        events.append(name)
        made(board, name, by)

    def store(local: LocalStore, key: Digest, result: ActionResult) -> None:
        events.append("stored")
        put(local, key, result)

    monkeypatch.setattr(Board, "made", announce)
    monkeypatch.setattr(LocalStore, "put_result", store)
    project.doit()
    after = [events[number + 1] for number, event in enumerate(events) if event != "stored"]
    assert after == ["stored", "stored"]


def test_alone_and_together_have_the_same_keys_and_outputs(
    project: Project, tmp_path: Path
) -> None:
    project.doit()
    project.runs()
    alone = Project(tmp_path / "alone", tmp_path / "other cache", dict(BATCH))
    (alone.source / "one.txt").write_text("1")
    for name in BATCH:
        assert alone.doit("-s", f"step:{name}") == 0
    assert alone.runs() == len(BATCH)
    assert alone.contents() == MADE
    again = Project(tmp_path / "again", project.cache, dict(BATCH))
    (again.source / "one.txt").write_text("1")
    assert again.doit() == 0
    assert again.executed() == set()
    keys = [
        {path.name for path in (cache / "v1/ac").rglob("*") if path.is_file()}
        for cache in (project.cache, alone.cache)
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("parallel", PARALLEL)
def test_only_what_is_stale_takes_part(project: Project, parallel: list[str]) -> None:
    project.doit(*parallel)
    project.runs()
    project.steps["a"] = Step("X", ["first"], batch=True)
    project.steps["c"] = Step("Y", ["first"], batch=True)
    project.doit(*parallel)
    assert project.executed() == {"a", "c", "last"}
    assert project.runs() == 2
    assert project.contents() == MADE | {"a": "XF1", "c": "YF1", "last": "LXF1BF1YF1"}


def test_what_is_not_selected_takes_no_part(project: Project) -> None:
    project.doit("step:a", "step:c")
    assert project.executed() == {"first", "a", "c"}
    assert project.runs() == 2
    project.doit()
    assert project.executed() == {"b", "other", "last"}


def test_what_is_in_place_takes_no_part_though_the_store_lost_it(project: Project) -> None:
    project.doit()
    project.runs()
    (project.source / "one.txt").write_text("2")
    project.steps["first"] = Step("F1", ["one.txt"], keep=2)  # the same output, made again
    project.steps["a"] = Step("X", ["first"], batch=True)
    for path in (project.cache / "v1/ac").rglob("*"):
        path.unlink() if path.is_file() else None
    project.doit()
    assert project.executed() == {"first", "a", "other", "last"}


@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_failure_is_that_of_one(
    project: Project, parallel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    project.steps["b"] = Step("B", ["first"], fail=True, batch=True)
    assert project.doit("--continue", *parallel) == 1
    assert project.contents() == MADE | {"b": None, "last": None}
    errors = capsys.readouterr().err
    assert "FAILED step:b" in errors
    assert "FAILED step:a" not in errors
    assert errors.splitlines()[-1].startswith(
        "6 nodes: 0 local, 0 remote, 4 built, 1 failed, 1 not run"
    )


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("again", ["always", "forget"])
def test_what_is_to_run_again_runs_once(project: Project, parallel: list[str], again: str) -> None:
    project.doit()
    if again == "forget":
        project.doit("forget", "step:a", "step:b")
    project.runs()
    project.doit(*(["-a"] if again == "always" else []), *parallel)
    assert project.executed() == (set(BATCH) if again == "always" else {"a", "b"})
    assert project.runs() == (4 if again == "always" else 1)


def test_equal_nodes_are_made_once(project: Project) -> None:
    project.steps["b"] = Step("A", ["first"], batch=True)
    project.doit()
    assert project.executed() == set(BATCH) - {"b"}
    assert project.contents()["b"] == "AF1"
