"""plan, status, why, check: what they say of a graph of quick actions."""

import json
from pathlib import Path

import pytest

from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, capsys: Capture) -> Project:
    made = Project(
        tmp_path / "project",
        tmp_path / "cache",
        {"a": Step("A", ["one.txt"]), "b": Step("B", ["a"]), "c": Step("C", ["b"])},
    )
    (made.source / "one.txt").write_text("1")
    assert made.doit() == 0
    capsys.readouterr()
    return made


def said(project: Project, capsys: Capture, *arguments: str) -> str:
    project.doit(*arguments)
    return capsys.readouterr().out


def test_why_nothing(project: Project, capsys: Capture) -> None:
    assert said(project, capsys, "why", "step:c") == "step:c is up to date\n"


def test_why_is_a_chain_to_the_root_cause(project: Project, capsys: Capture) -> None:
    project.steps["a"] = Step("X", ["one.txt"])
    assert said(project, capsys, "why", "step:c").splitlines() == [
        "step:c is unknown until step:b is built",
        "└─ step:b is unknown until step:a is built",
        "   └─ step:a has to be built",
        "      └─ parameter text A → X",
    ]


def test_why_names_the_source(project: Project, capsys: Capture) -> None:
    (project.source / "one.txt").write_text("2")
    assert said(project, capsys, "why", "step:a").splitlines() == [
        "step:a has to be built",
        "└─ input files/one.txt changed",
    ]


def test_why_names_the_module(project: Project, capsys: Capture) -> None:
    code = project.root / "toyactions/concat.py"
    code.write_text(code.read_text() + "\nNEW = 1\n")
    assert "code toyactions/concat.py changed" in said(project, capsys, "why", "step:a")


def test_why_names_the_producer_of_an_input(project: Project, capsys: Capture) -> None:
    project.steps["a"] = Step("X", ["one.txt"])
    project.doit("step:a")
    capsys.readouterr()
    assert said(project, capsys, "why", "step:b").splitlines() == [
        "step:b has to be built",
        "└─ input a/out.txt changed, made by step:a",
    ]


def test_why_names_a_lost_output(project: Project, capsys: Capture) -> None:
    project.output("b").unlink()
    assert said(project, capsys, "why", "step:b").splitlines() == [
        "step:b will be restored from the store",
        "└─ output out.txt is missing or changed",
    ]


def test_why_before_the_first_build(tmp_path: Path, capsys: Capture) -> None:
    fresh = Project(tmp_path / "fresh", tmp_path / "other-cache", {"a": Step("A")})
    assert said(fresh, capsys, "why", "step:a").splitlines() == [
        "step:a has to be built",
        "└─ never built here",
    ]


def test_why_key_and_inputs(project: Project, capsys: Capture) -> None:
    (key,) = said(project, capsys, "why", "step:a", "--key").splitlines()
    assert len(key) == 64
    first, *fields = said(project, capsys, "why", "step:a", "--inputs").splitlines()
    assert first == key
    assert "  parameter text: A" in fields


def test_why_is_about_one_known_task(project: Project, capsys: Capture) -> None:
    assert project.doit("why") == 3
    assert "doit why TASK" in capsys.readouterr().err
    assert project.doit("why", "step:d") == 3
    assert "unknown task 'step:d'" in capsys.readouterr().err


def test_plan_tells_what_a_run_would_do(project: Project, capsys: Capture) -> None:
    project.steps["b"] = Step("X", ["a"])
    lines = said(project, capsys, "plan").splitlines()
    assert lines == [
        "stale    step:b  (its key changed)",
        "waiting  step:c  (unknown until step:b is built)",
        "3 nodes: 1 current, 0 cached, 0 remote, 1 stale, 1 waiting, 0 broken",
    ]
    assert project.contents()["b"] == "BA1"


def test_plan_as_json(project: Project, capsys: Capture) -> None:
    value = json.loads(said(project, capsys, "plan", "--json"))
    assert [node["state"] for node in value["nodes"]] == ["current"] * 3
    assert all(len(node["key"]) == 64 for node in value["nodes"])


def test_status_check_is_for_scripts(project: Project, capsys: Capture) -> None:
    assert project.doit("status", "--check") == 0
    project.steps["b"] = Step("X", ["a"])
    assert project.doit("status", "--check") == 1
    capsys.readouterr()
    value = json.loads(said(project, capsys, "status", "--json"))
    assert value["nodes"] == {"step:a": "current", "step:b": "stale", "step:c": "waiting"}


def test_check_rebuilds_and_compares(project: Project, capsys: Capture) -> None:
    assert project.doit("check", "step") == 0
    assert capsys.readouterr().out.split() == [
        *("identical", "step:a", "identical", "step:b", "identical", "step:c")
    ]


def test_check_finds_what_is_not_reproducible(project: Project, capsys: Capture) -> None:
    code = project.root / "toyactions/concat.py"
    clock = "    text = str(__import__('time').time_ns()) + params"
    code.write_text(code.read_text().replace("    text = params", clock, 1))
    project.doit()
    capsys.readouterr()
    assert project.doit("check", "step:a") == 1
    assert capsys.readouterr().out == "DIFFERENT step:a\n  out.txt\n"


def test_check_leaves_everything_as_it_was(project: Project) -> None:
    project.doit("check", "step")
    project.doit()
    assert project.executed() == set()
