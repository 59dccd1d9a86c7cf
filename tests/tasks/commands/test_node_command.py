"""What all commands about nodes do alike."""

import os
import sys

import pytest

from tests.tasks.toy import Project


@pytest.mark.parametrize("command", ["plan", "status", "graph"])
def test_a_reader_may_have_seen_enough(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As `doit plan | head -1` has: no traceback, and no failure."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert project.doit(command) == 0
