"""`doit cache` and its subcommand `stats`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, capsys: Capture) -> Project:
    made = Project(
        tmp_path / "project", tmp_path / "cache", {"a": Step("A" * 2000), "b": Step("B", ["a"])}
    )
    assert made.doit() == 0
    capsys.readouterr()
    return made


def stats(project: Project, capsys: Capture) -> dict[str, Any]:
    assert project.doit("cache", "stats", "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_stats_count_what_is_there(project: Project, capsys: Capture) -> None:
    told = stats(project, capsys)
    entries = sum(path.stat().st_size for path in (project.cache / "v1/ac").glob("*/*"))
    assert (told["results"], told["blobs"], told["bytes"]) == (2, 2, 2000 + 2001 + entries)
    assert told["unreferenced"] == {"blobs": 0, "bytes": 0}
    assert told["corrupt"] == {"files": 0, "bytes": 0}
    kind = told["kinds"]["step"]
    assert (kind["results"], kind["bytes"]) == (2, 4001)
    assert 0 <= kind["used_seconds_ago"]["least"] <= kind["used_seconds_ago"]["most"]


def test_stats_tell_what_is_nobodys(project: Project, capsys: Capture) -> None:
    (project.root / "build/state.sqlite").unlink()
    for path in (project.cache / "v1/ac").glob("*/*"):
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    told = stats(project, capsys)
    assert told["unreferenced"] == {"blobs": 2, "bytes": 4001}
    assert list(told["kinds"]) == ["unknown"]
    project.doit("cache", "stats")
    shown = capsys.readouterr().out
    assert shown.startswith(f"{project.cache}: 2 results, 2 blobs, 3.9 KiB\n")
    assert "2 blobs that no result names, 3.9 KiB" in shown


def test_stats_of_an_empty_store(tmp_path: Path, capsys: Capture) -> None:
    empty = Project(tmp_path / "project", tmp_path / "cache")
    told = stats(empty, capsys)
    assert (told["results"], told["blobs"], told["kinds"]) == (0, 0, {})
    assert not (tmp_path / "cache").exists()


def test_foreign_files_are_not_counted(project: Project, capsys: Capture) -> None:
    before = stats(project, capsys)
    before["kinds"]["step"].pop("used_seconds_ago")
    place = next((project.cache / "v1/cas").iterdir())
    (place / "notes.txt").write_text("mine")
    (project.cache / "v1/cas/README").write_text("mine")
    after = stats(project, capsys)
    after["kinds"]["step"].pop("used_seconds_ago")
    assert after == before


def test_the_nodes_of_other_projects_are_known(project: Project, capsys: Capture) -> None:
    other = Project(project.root.parent / "other", project.cache)
    assert list(stats(other, capsys)["kinds"]) == ["step"]


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        ([], "which? doit cache"),
        (["stat"], "unknown subcommand 'stat'\nhint: did you mean 'stats'?"),
        (["stats", "step:a"], "it takes no tasks"),
        (["stats", "--jsom"], "--jsom"),
    ],
)
def test_mistakes(project: Project, capsys: Capture, arguments: list[str], mistake: str) -> None:
    assert project.doit("cache", *arguments) == 3
    told = capsys.readouterr().err
    assert mistake in told
    assert "Traceback" not in told


def test_help_is_that_of_all_subcommands(project: Project, capsys: Capture) -> None:
    assert project.doit("help", "cache") == 0
    assert " cache stats\n" in capsys.readouterr().out
