"""What all commands about nodes do alike."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from tasks.assess import assess
from tests.tasks.toy import Project
from tests.tasks.toy_directory import doit_section


@pytest.mark.parametrize("command", [["plan"], ["status"], ["graph"], ["list"], ["plan", "-h"]])
def test_a_reader_may_have_seen_enough(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """As `doit plan | head -1` has: no traceback, and no failure."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert project.doit(*command) == 0


@pytest.mark.parametrize("asked", ["--help", "-h"])
@pytest.mark.parametrize(
    "command", [["plan"], ["ci-matrix"], ["run"], ["list"], ["cache"], ["cache", "gc"]]
)
def test_help_is_given_where_it_is_asked_for(
    project: Project, capsys: pytest.CaptureFixture[str], command: list[str], asked: str
) -> None:
    assert project.doit(*command, asked) == 0
    told = capsys.readouterr()
    assert f"USAGE\n    {Path(sys.argv[0]).name} {' '.join(command)}" in told.out
    assert not told.err


@pytest.mark.parametrize("command", [[], ["plan"], ["cache", "gc"]])
def test_tasks_of_another_kind_have_no_build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    """As of `doit --file other.py`, or with an empty variable for its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(doit_section())
    tasks = {"task_other": lambda: {"actions": []}}
    assert DoitMain(ModuleTaskLoader(tasks), config_filenames=["pyproject.toml"]).run(command) == 3
    told = capsys.readouterr().err
    assert told.startswith("ERROR: the file of tasks has no build of a matrix\nhint: ")
    assert "Traceback" not in told


def test_full_collections_of_garbage_are_rare_meanwhile(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, seen = gc.get_threshold(), []

    def assessed(*arguments: Any, **options: Any) -> Any:
        seen.append(gc.get_threshold())
        return assess(*arguments, **options)

    monkeypatch.setattr("tasks.session.assess", assessed)
    assert project.doit("plan") == 0
    assert seen == [(usual[0], usual[1], 100 * usual[2])]
    assert gc.get_threshold() == usual


def test_doits_tasks_are_left_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a run needs them, and those of a large graph fill the memory."""
    monkeypatch.setattr("tests.tasks.toy.doit_tasks", lambda _: pytest.fail("loaded"))
    assert project.doit("plan") == 0
    assert project.doit("status") == 0


def test_a_misspelt_task_is_guessed(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(project.steps))
    assert project.doit("plan", f"step:{name}x") == 3
    assert f"did you mean 'step:{name}'?" in capsys.readouterr().err
