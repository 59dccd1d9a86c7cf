"""A graph of three quick steps that was built, and what a command says of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tasks.toy import Project, Step

Said = Callable[..., list[str]]


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    """The file one.txt, read by a, which b reads, which c reads: A1, BA1, CBA1."""
    steps = {"a": Step("A", ["one.txt"]), "b": Step("B", ["a"]), "c": Step("C", ["b"])}
    made = Project(tmp_path / "project", tmp_path / "cache", steps)
    (made.source / "one.txt").write_text("1")
    assert made.doit() == 0
    capsys.readouterr()
    return made


@pytest.fixture
def said(project: Project, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command, and return what it says on the standard output, line by line."""

    def run(*arguments: str, code: int = 0) -> list[str]:
        capsys.readouterr()
        assert project.doit(*arguments) == code
        return capsys.readouterr().out.splitlines()

    return run
