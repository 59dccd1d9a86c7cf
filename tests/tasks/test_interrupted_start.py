"""Ctrl-C while doit is still importing what it is going to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tasks.toy import Project, Step
from tests.tasks.toy_directory import ROOT, write

# What the `doit` that users type does, with Ctrl-C at the import of a module.
START = """
import signal, sys
from doit.doit_cmd import DoitMain

class Interrupting:
    def find_spec(name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
sys.exit(DoitMain().run({arguments!r}))
"""

SHELL = ("/bin/sh", "-c", '"$@"; exit $?', "sh")  # what ends by SIGINT is to a shell 130


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("tasks.graph", []),  # before there is a command
        ("tasks.commands.node_command", ["status"]),
        ("tasks.graph", ["list"]),
        ("tests.tasks.toy", []),  # dodo.py
        ("tasks.memory", []),  # when nodes are about to run
    ],
)
def test_it_is_told_in_one_line(tmp_path: Path, module: str, arguments: list[str]) -> None:
    project = Project(tmp_path / "p", tmp_path / "cache", {"a": Step("A")})
    write(project)
    program = START.format(module=module, arguments=arguments)
    done = subprocess.run(
        [*SHELL, sys.executable, "-c", program],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    lines = done.stderr.splitlines()
    assert lines[0] == ""
    assert lines[1].startswith("interrupted")
    assert len(lines) == 2
    assert not done.stdout
