"""`file_dep` of tasks that users add to dodo.py: content decides, hashed once."""

import os
from pathlib import Path

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from cache.local.stat_cache import StatCache
from tasks.checker import ContentChecker


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    ContentChecker.stat = StatCache(tmp_path / "stat.sqlite")
    return []


def doit(directory: Path, runs: list[str], during: object = None) -> int:
    """Run two tasks of a user's own over one file."""

    def work(name: str) -> None:
        runs.append(name)
        if callable(during):
            during()

    file = str(directory / "input")
    namespace = {
        "DOIT_CONFIG": {
            "dep_file": str(directory / "state.json"),
            "backend": "json",
            "check_file_uptodate": ContentChecker,
            "reporter": "zero",
        },
        "task_one": lambda: {"actions": [(work, ["one"])], "file_dep": [file]},
        "task_two": lambda: {"actions": [(work, ["two"])], "file_dep": [file]},
    }
    return int(DoitMain(ModuleTaskLoader(namespace), config_filenames=()).run(["run"]) or 0)


def test_touching_runs_nothing(tmp_path: Path, runs: list[str]) -> None:
    file = tmp_path / "input"
    file.write_text("x")
    assert doit(tmp_path, runs) == 0
    assert runs == ["one", "two"]
    os.utime(file)
    doit(tmp_path, runs)
    assert runs == ["one", "two"]


def test_same_size_and_time_other_content_is_noticed(tmp_path: Path, runs: list[str]) -> None:
    file = tmp_path / "input"
    file.write_text("x")
    doit(tmp_path, runs)
    before = file.stat()
    file.write_text("y")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    doit(tmp_path, runs)
    assert runs == ["one", "two"] * 2


def test_an_edit_during_the_run_is_not_recorded_as_clean(tmp_path: Path, runs: list[str]) -> None:
    file = tmp_path / "input"
    file.write_text("x")
    doit(tmp_path, runs, during=lambda: file.write_text("edited"))
    runs.clear()
    doit(tmp_path, runs)
    assert "one" in runs


def test_a_missing_file_is_doits_error(tmp_path: Path, runs: list[str]) -> None:
    assert doit(tmp_path, runs) != 0
    assert runs == []
