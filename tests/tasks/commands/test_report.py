"""doit report: which form it writes, and where to."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(
        tmp_path / "project", tmp_path / "cache", {"a": Step("A"), "b": Step("B", ["a"])}
    )


def report(project: Project, capsys: Capture, *arguments: str) -> str:
    assert project.doit("report", *arguments) == 0
    return capsys.readouterr().out


def refused(project: Project, capsys: Capture, *arguments: str) -> str:
    assert project.doit("report", *arguments) == 3
    return capsys.readouterr().err


def test_markdown_is_what_comes_without_options(project: Project, capsys: Capture) -> None:
    assert report(project, capsys).startswith("# Release matrix\n")


def test_each_form(project: Project, capsys: Capture) -> None:
    assert report(project, capsys, "--format", "markdown") == report(project, capsys)
    found: Any = json.loads(report(project, capsys, "--format=json"))
    assert [node["name"] for node in found["nodes"]] == ["step:a", "step:b"]
    assert report(project, capsys, "--format", "html").startswith("<!doctype html>\n")


@pytest.mark.parametrize(
    ("name", "start"), [("a.html", "<!doctype"), ("a.md", "# Release"), ("a.JSON", "{\n")]
)
def test_a_file_has_the_form_of_its_name(
    project: Project, capsys: Capture, tmp_path: Path, name: str, start: str
) -> None:
    file = tmp_path / name
    assert report(project, capsys, "--output", str(file)) == ""
    assert file.read_text().startswith(start)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_a_form_that_is_named_wins(project: Project, capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "summary"
    report(project, capsys, "-o", str(file), "--format", "json")
    assert json.loads(file.read_text())["version"] == 1


def test_some_tasks(project: Project, capsys: Capture) -> None:
    found = json.loads(report(project, capsys, "step:a", "--format", "json"))
    assert [node["name"] for node in found["nodes"]] == ["step:a"]


def test_what_cannot_be_written_is_told(project: Project, capsys: Capture, tmp_path: Path) -> None:
    told = refused(project, capsys, "--format", "pdf")
    assert "no form 'pdf'" in told
    assert "hint: --format is one of markdown, json, html" in told
    told = refused(project, capsys, "-o", "report.pdf")
    assert "report.pdf does not say which form" in told
    told = refused(project, capsys, "-o", str(tmp_path / "nowhere" / "a.html"))
    assert "cannot write" in told
    assert f"nowhere{os.sep}a.html: No such file or directory" in told


def test_nothing_is_built_for_it(project: Project, capsys: Capture) -> None:
    report(project, capsys)
    assert project.contents() == {"a": None, "b": None}
