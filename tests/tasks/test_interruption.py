"""Ctrl-C and SIGTERM: nothing is left running, what is finished is kept, the terminal is as it was."""

import contextlib
import itertools
import json
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tasks.processes import statuses, wait_for_end
from tests.tasks.pseudo_terminal import Terminal
from tests.tasks.toy import Project, Step
from tests.tasks.toy_directory import ROOT, write

# An action that starts programs, of which one starts another and one has a session of its own, and
# waits for them, as a compiler driver or a browser does.
WAITING = '''
    """Wait for programs that never end."""

    import subprocess
    import sys

    SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]
    PARENT = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(1000)"


    def run(params, inputs, outputs):
        """Never finish."""
        away = subprocess.Popen(SLEEP, start_new_session=True)
        subprocess.run([sys.executable, "-c", PARENT, *SLEEP])
        away.wait()
        raise RuntimeError("it ended")
'''
# An action that cannot be interrupted: code of C that does not look for signals.
DEAF = '''
    """Hear no signal."""

    import ctypes


    def run(params, inputs, outputs):
        """Sleep in C, again and again."""
        libc = ctypes.CDLL(None)
        for _ in range(1000):
            libc.sleep(1)
        (outputs / "out.txt").write_text("-")
'''
PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Four steps, of which the second and the third wait."""
    steps = {"a": Step("A"), "b": Step("B", ["a"]), "c": Step("C", ["a"]), "d": Step("D", ["b"])}
    return Project(tmp_path / "p", tmp_path / "cache", steps)


def with_action(project: Project, action: str) -> Path:
    """Let the steps b and c do an action while a file is there; returns the file."""
    path = project.root / "toyactions/concat.py"
    own = textwrap.dedent(action).replace("def run(", "def wait(")
    head = '    """Write the text and the inputs."""\n'
    marker = project.root / "waiting"
    marker.touch()
    chosen = f'    if params["text"] in "BC" and Path({str(marker)!r}).exists():\n'
    before, found, after = path.read_text().partition(head)
    assert found
    chosen += "        return wait(params, inputs, outputs)\n"
    write(project, own + before + head + chosen + after)
    return marker


def start(project: Project, *arguments: str, columns: int = 80) -> Terminal:
    return Terminal([sys.executable, "-m", "doit", *arguments], project.root, ENVIRONMENT, columns)


def tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


@pytest.fixture
def left() -> Iterator[list[psutil.Process]]:
    """Processes that must have ended; they are ended in any case."""
    found: list[psutil.Process] = []
    yield found
    for process in found:
        wait_for_end(process)
    running = [one for one in found if statuses([one])]
    for process in running:
        process.kill()
    assert running == []


@pytest.mark.parametrize(
    ("parallel", "how"),
    [*itertools.product(PARALLEL, ["ctrl-c", "SIGTERM"]), ([], "SIGHUP")],
)
def test_everything_ends_and_what_is_finished_is_kept(
    project: Project, left: list[psutil.Process], parallel: list[str], how: str
) -> None:
    marker = with_action(project, WAITING)
    programs = 3 * (2 if parallel else 1)
    with start(project, *parallel) as terminal:

        def all_run(terminal: Terminal) -> bool:
            names = [one.name() for one in tree(terminal.process.pid)]
            return len(names) >= programs + (2 if parallel == PARALLEL[1] else 0)

        terminal.until(all_run)
        left += tree(terminal.process.pid)
        if how == "ctrl-c":
            terminal.type(b"\x03")
        else:
            terminal.send(signal.Signals[how])
        code = terminal.wait()
        lines = terminal.lines()
        assert not terminal.screen.cursor.hidden
    assert code == {"ctrl-c": 130, "SIGTERM": 143, "SIGHUP": 129}[how]
    assert lines[-1] == "interrupted: finished nodes are kept; run doit again to go on"
    assert lines[-2].startswith("4 nodes: 0 local, 0 remote, 1 built, 3 not run (")
    assert not [line for line in lines if "━" in line or "FAILED" in line or "Traceback" in line]
    drawn = json.loads((project.root / "build/trace.json").read_text())["traceEvents"]
    unfinished = [event["name"] for event in drawn if event["args"].get("how") == "not finished"]
    assert sorted(unfinished) == (["step:b", "step:c"] if parallel else ["step:b"])
    marker.unlink()
    assert project.doit() == 0
    assert project.executed() == {"b", "c", "d"}
    assert list((project.root / "build/tmp").iterdir()) == []
    assert list((project.cache / "v1/tmp").iterdir()) == []


@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_second_ctrl_c_ends_at_once_whatever_is_running(
    project: Project, left: list[psutil.Process], parallel: list[str]
) -> None:
    with_action(project, DEAF)
    with start(project, *parallel) as terminal:
        terminal.until(lambda terminal: "step:b" in terminal.text())
        left += tree(terminal.process.pid)
        terminal.type(b"\x03")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        assert not terminal.screen.cursor.hidden
        assert terminal.lines()[-1].startswith("interrupted: finished nodes are kept")


def test_a_deaf_action_has_a_few_seconds(project: Project, left: list[psutil.Process]) -> None:
    with_action(project, DEAF)
    with start(project) as terminal:
        terminal.until(lambda terminal: "step:b" in terminal.text())
        left += tree(terminal.process.pid)
        terminal.send(signal.SIGTERM)
        assert terminal.wait() == 143
        assert not terminal.screen.cursor.hidden


def test_a_killed_build_takes_its_programs_along(
    project: Project, left: list[psutil.Process]
) -> None:
    """kill -9 of doit alone: its workers notice, and end what they have started."""
    with_action(project, WAITING)
    with start(project, "-n", "2") as terminal:
        terminal.until(lambda terminal: len(tree(terminal.process.pid)) >= 8)
        left += tree(terminal.process.pid)
        terminal.send(signal.SIGKILL)
        terminal.process.wait()
