"""`doit ci-matrix`: the jobs that a CI system is told of."""

import json
from pathlib import Path
from typing import Any

import pytest

from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from tasks.commands.ci_matrix import machine_of
from tasks.node import Node, Selection
from tests.tasks.toy import Project, Step

STEPS = {
    "a": Step("A", ["one.txt"]),
    "b": Step("B", ["a"]),
    "c": Step("C", ["a"]),
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", tmp_path / "cache", dict(STEPS))
    (made.source / "one.txt").write_text("1")
    return made


@pytest.fixture
def matrix(project: Project, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*arguments: str) -> Any:
        capsys.readouterr()
        assert project.doit("ci-matrix", "--runs-on", "mine", *arguments) == 0
        (line,) = capsys.readouterr().out.splitlines()
        return json.loads(line)

    return ask


def test_jobs_of_a_build_from_nothing(matrix: Any) -> None:
    assert matrix() == {
        "include": [
            {
                "name": "rows 1/1",
                "wave": "rows",
                "runs-on": "mine",
                "extras": "",
                "tasks": "step:b step:c",
                "seconds": 30,
            }
        ]
    }
    assert matrix("--wave", "shared") == {"include": []}


def test_what_is_cached_is_in_no_job(project: Project, matrix: Any) -> None:
    project.doit("step:b")
    assert [job["tasks"] for job in matrix()["include"]] == ["step:c"]
    assert matrix("step:b") == {"include": []}
    project.doit()
    assert matrix() == {"include": []}
    project.steps["b"] = Step("X", ["a"])
    (job,) = matrix()["include"]
    assert job["tasks"] == "step:b"
    assert job["seconds"] < 10  # what it took, not the guess


def test_a_child_pipeline(
    project: Project, matrix: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = matrix("--format", "gitlab")
    assert pipeline["stages"] == ["shared", "rows"]
    assert pipeline["include"] == [{"local": ".gitlab/build.yml"}]
    assert pipeline["rows 1/1"] == {
        "extends": ".build",
        "stage": "rows",
        "tags": ["mine"],
        "variables": {"EXTRAS": "", "TASKS": "step:b step:c"},
    }
    assert project.doit("ci-matrix", "--format", "gitlab") == 0
    unlabelled = json.loads(capsys.readouterr().out)
    assert "tags" not in unlabelled["rows 1/1"]  # of GitHub's labels a GitLab has none
    project.doit()
    nothing = {"stage": "rows", "tags": ["mine"], "script": ["true"]}  # for some runner, too
    assert matrix("--format", "gitlab")["nothing is stale"] == nothing


def test_a_tool_that_is_missing_where_it_is_planned(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.steps["b"] = Step("B", ["a"], missing="needs nvcc\nhint: install it")
    assert project.doit("ci-matrix", "--runs-on", "mine") == 3
    told = capsys.readouterr().err
    assert "step:b has no key without its tools: needs nvcc\nhint: install it" in told
    assert project.doit("ci-matrix", "--runs-on", "mine", "step:c") == 0


def test_a_cache_that_does_not_answer_is_no_plan_where_it_is_required(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it all would be stale, and a job for each of them began."""
    project.remote = lambda: connect("http://127.0.0.1:1", Credentials())
    ask = ("ci-matrix", "--runs-on", "mine")
    assert project.doit(*ask) == 0
    assert "going on without the remote cache" in capsys.readouterr().err
    assert project.doit(*ask, "--require-remote") == 3
    told = capsys.readouterr()
    assert "127.0.0.1:1" in told.err
    assert told.out == ""


@pytest.mark.parametrize("count", ["0", "257"])
def test_a_number_of_jobs_that_no_matrix_has(
    project: Project, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert project.doit("ci-matrix", "--jobs", count) == 3
    assert "hint: give a number from 1 to 256" in capsys.readouterr().err


def test_what_a_node_needs_beyond_python_packages() -> None:
    tool = Selection("tool:opencl", ("*.h",))
    plain = Node("verify:a", "m", "{}", (Selection("compile:a", ("*",)),), "build")
    checked = Node("verify:b", "m", "{}", (tool,), "build")
    cuda = Node("compile:c", "m", "{}", (), "build", programs=(("g++", "12"), ("nvcc", "13")))
    assert [machine_of(node, "here").extras for node in (plain, checked, cuda)] == [
        (),
        ("verify",),
        ("cuda",),
    ]
