"""`doit why`: the one true reason, down to its root."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]
Said = Callable[..., list[str]]


def test_nothing(said: Said) -> None:
    assert said("why", "step:c") == ["step:c is up to date"]


def test_a_chain_to_the_root_cause(project: Project, said: Said) -> None:
    project.steps["a"] = Step("X", ["one.txt"])
    assert said("why", "step:c") == [
        "step:c is unknown until step:b is built",
        "└─ step:b is unknown until step:a is built",
        "   └─ step:a has to be built",
        "      └─ parameter text A → X",
    ]


def test_a_source(project: Project, said: Said) -> None:
    (project.source / "one.txt").write_text("2")
    assert said("why", "step:a") == [
        "step:a has to be built",
        "└─ input files/one.txt changed, read from source/one.txt",
    ]


def test_a_source_that_is_gone(project: Project, said: Said) -> None:
    shutil.rmtree(project.source)
    (line,) = said("why", "step:a")
    assert line.startswith("step:a cannot be built: source:files: cannot read ")


def test_a_module(project: Project, said: Said) -> None:
    code = project.root / "toyactions/concat.py"
    code.write_text(code.read_text() + "\nNEW = 1\n")
    assert said("why", "step:a")[1:] == ["└─ code toyactions/concat.py changed"]


def test_a_tool(project: Project, said: Said) -> None:
    project.steps["a"] = Step("A", ["one.txt"], tool="1.0")
    assert said("why", "step:a")[1:] == ["└─ tool program added"]
    project.doit()
    project.steps["a"] = Step("A", ["one.txt"], tool="1.1")
    assert said("why", "step:c")[-1].strip() == "└─ tool program 1.0 → 1.1"


def test_the_producer_of_an_input_and_why_that_was_made(project: Project, said: Said) -> None:
    project.steps["a"] = Step("X", ["one.txt"])
    project.doit("step:a")
    assert said("why", "step:b") == [
        "step:b has to be built",
        "└─ input a/out.txt changed",
        "   └─ step:a was built",
        "      └─ parameter text A → X",
    ]


def test_several_causes(project: Project, said: Said) -> None:
    """All of them are named, those too of a node that waits."""
    project.steps["a"] = Step("X", ["one.txt"])
    project.steps["b"] = Step("Y", ["a"])
    (project.source / "one.txt").write_text("2")
    assert said("why", "step:b") == [
        "step:b is unknown until step:a is built",
        "├─ step:a has to be built",
        "│  ├─ input files/one.txt changed, read from source/one.txt",
        "│  └─ parameter text A → X",
        "└─ parameter text B → Y",
    ]


def test_what_two_paths_lead_to_is_explained_once(project: Project, said: Said) -> None:
    project.steps["d"] = Step("D", ["a", "c"])
    project.doit()
    project.steps["a"] = Step("X", ["one.txt"])
    assert said("why", "step:d") == [
        "step:d is unknown until step:a is built",
        "├─ step:a has to be built",
        "│  └─ parameter text A → X",
        "└─ step:c is unknown until step:b is built",
        "   └─ step:b is unknown until step:a is built",
        "      └─ step:a (see above)",
    ]


@pytest.mark.parametrize(("edit", "word"), [("", "is missing"), ("other", "has changed")])
def test_an_output(project: Project, said: Said, edit: str, word: str) -> None:
    project.output("b").unlink()
    if edit:
        project.output("b").write_text(edit)
    assert said("why", "step:b") == [
        "step:b will be restored from the store",
        f"└─ output out.txt {word}",
    ]


def test_several_outputs(project: Project, said: Said) -> None:
    project.steps["b"] = Step("B", ["a"], extra=True)
    project.doit()
    shutil.rmtree(project.output("b").parent)
    assert said("why", "step:b")[1:] == ["└─ output extra.log is missing, and 1 more"]


def test_an_output_and_a_parameter(project: Project, said: Said) -> None:
    """What is to be made anew is so for its key: the lost file is no cause."""
    project.output("a").unlink()
    project.steps["a"] = Step("X", ["one.txt"])
    assert said("why", "step:a")[1:] == ["└─ parameter text A → X"]


def test_before_the_first_build(tmp_path: Path, capsys: Capture) -> None:
    fresh = Project(tmp_path / "fresh", tmp_path / "other-cache", {"a": Step("A")})
    fresh.doit("why", "step:a")
    assert capsys.readouterr().out.splitlines() == [
        "step:a has to be built",
        "└─ never built here",
    ]


def test_what_was_forgotten(project: Project, said: Said) -> None:
    project.doit("forget", "step:b")
    assert said("why", "step:b") == ["step:b has to be built", "└─ forgotten: it runs again"]
    assert said("why", "step:a") == ["step:a is up to date"]


def test_what_failed(project: Project, said: Said) -> None:
    project.steps["b"] = Step("B", ["a"], fail=True)
    project.doit()
    assert said("why", "step:b") == [
        "step:b has to be built",
        "├─ its last success is not recorded any more: it failed since, or was cleaned",
        "└─ parameter fail added",
    ]


def test_what_is_not_in_the_matrix_any_more(project: Project, said: Said, capsys: Capture) -> None:
    del project.steps["c"]
    assert said("why", "step:c") == ["step:c is not in the matrix any more: nothing builds it"]
    assert project.doit("why", "step:never") == 3
    assert "unknown task 'step:never'" in capsys.readouterr().err


def test_key_and_inputs(said: Said) -> None:
    (key,) = said("why", "step:a", "--key")
    assert len(key) == 64
    first, *fields = said("why", "step:a", "--inputs")
    assert first == key
    assert "  parameter text: A" in fields


def test_it_is_about_one_known_task(project: Project, capsys: Capture) -> None:
    assert project.doit("why") == 3
    assert "doit why TASK" in capsys.readouterr().err
    assert project.doit("why", "step:d") == 3
    assert "unknown task 'step:d'" in capsys.readouterr().err


@pytest.mark.parametrize("parallel", [[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
def test_last_time(project: Project, said: Said, parallel: list[str]) -> None:
    project.steps["a"] = Step("X", ["one.txt"])
    project.doit(*parallel)
    assert said("why", "step:c") == ["step:c is up to date"]
    assert said("why", "--last", "step:c") == [
        "step:c was built",
        "└─ input b/out.txt changed",
        "   └─ step:b was built",
        "      └─ input a/out.txt changed",
        "         └─ step:a was built",
        "            └─ parameter text A → X",
    ]


def test_last_time_was_the_first(said: Said) -> None:
    assert said("why", "--last", "step:c") == ["step:c was built", "└─ never built here"]


def test_last_time_it_was_restored(project: Project, said: Said) -> None:
    project.output("b").unlink()
    project.doit()
    assert said("why", "--last", "step:b") == [
        "step:b was restored from the store",
        "└─ output out.txt is missing",
    ]


def test_last_time_it_was_asked_for(project: Project, said: Said) -> None:
    project.doit("-a", "step:b")
    assert said("why", "--last", "step:b")[1:] == ["└─ asked to run again"]
    project.doit("forget", "step:b")
    project.doit()
    assert said("why", "--last", "step:b")[1:] == ["└─ forgotten: it runs again"]


def test_last_time_is_not_a_later_one(project: Project, said: Said) -> None:
    """Why a producer was made after its consumer is not why the consumer was made."""
    project.steps["a"] = Step("X", ["one.txt"])
    project.doit("step:b")
    project.steps["a"] = Step("Y", ["one.txt"])
    project.doit("step:a")
    assert said("why", "--last", "step:b") == [
        "step:b was built",
        "└─ input a/out.txt changed",
        "   └─ why step:a was made is not recorded",
    ]


def test_last_time_of_what_was_never_made(project: Project, said: Said) -> None:
    project.steps["d"] = Step("D")
    assert said("why", "--last", "step:d") == ["why step:d was made is not recorded"]
