"""Ctrl-Z, fg and bg, as the user of a shell has them."""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.tasks.processes import statuses, wait_for_end
from tests.tasks.pseudo_terminal import Terminal
from tests.tasks.toy import Project, Step
from tests.tasks.toy_directory import ROOT, write

STEPS = {"a": Step("A"), "b": Step("B", ["a"]), "c": Step("C", ["a"])}
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"},
    "PYTHONPATH": str(ROOT),
    "TERM": "xterm",
    "LC_ALL": "C.UTF-8",
    "PS1": "$ ",
}
DOIT = [sys.executable, "-m", "doit"]
# All but the first step run a program that leaves the job, as a browser does, until a file is there.
WAITING = """    import subprocess, sys, time
    if params["text"] != "A":
        sleep = [sys.executable, "-c", {sleep!r}]
        away = subprocess.Popen(sleep, start_new_session=True)
        while not Path({go!r}).exists():
            time.sleep(0.02)
        away.kill()
        away.wait()
    if params.get("fail"):
"""
SLEEP = "import time; time.sleep(1000)"
CTRL_Z = b"\x1a"
PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "p", tmp_path / "cache", dict(STEPS))
    code = (made.root / "toyactions/concat.py").read_text()
    waiting = WAITING.format(go=str(made.root / "go"), sleep=SLEEP)
    write(made, code.replace('    if params.get("fail"):\n', waiting, 1))
    return made


def shell(project: Project) -> Terminal:
    return Terminal(["bash", "--norc", "--noprofile", "-i"], project.root, ENVIRONMENT, 80)


def started(terminal: Terminal) -> list[psutil.Process]:
    return psutil.Process(terminal.process.pid).children(recursive=True)


def programs(terminal: Terminal) -> list[psutil.Process]:
    """Those that steps run, and that run already: until then, whoever starts one waits unstoppably."""
    found = []
    for process in started(terminal):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-1:] == [SLEEP]:
                found.append(process)
    return found


def is_live(terminal: Terminal) -> bool:
    bars = [line for line in terminal.lines() if line.startswith(("━", "╸"))]
    return terminal.screen.cursor.hidden and len(bars) == 1


def all_are_stopped(terminal: Terminal) -> bool:
    terminal.type(b"\n")  # the shell answers with a prompt, upon which it is looked again
    return statuses(started(terminal)) == {psutil.STATUS_STOPPED}


def run_until_it_waits(terminal: Terminal, parallel: list[str]) -> None:
    """Let doit run in a shell until its programs do: one for each step that waits."""
    terminal.type(" ".join([*DOIT, *parallel, "\n"]).encode())
    jobs = 2 if parallel else 1
    processes = 1 + jobs + (2 if parallel == PARALLEL[1] else 0)
    terminal.until(lambda terminal: is_live(terminal) and len(programs(terminal)) == jobs)
    terminal.until(lambda terminal: len(started(terminal)) == processes)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_all_is_stopped_and_goes_on(project: Project, parallel: list[str]) -> None:
    with shell(project) as terminal:
        run_until_it_waits(terminal, parallel)
        terminal.type(CTRL_Z)
        terminal.until(lambda terminal: "Stopped" in terminal.text())
        assert not terminal.screen.cursor.hidden
        assert "━" not in terminal.text()
        terminal.until(all_are_stopped)
        terminal.type(b"fg\n")
        terminal.until(is_live)
        terminal.until(lambda terminal: psutil.STATUS_STOPPED not in statuses(started(terminal)))
        (project.root / "go").touch()
        terminal.until(lambda terminal: "3 built" in terminal.text())
        terminal.type(b"exit\n")
        assert terminal.wait() == 0
        assert not terminal.screen.cursor.hidden
        assert "━" not in terminal.text()


def test_a_job_in_the_background_leaves_the_terminal_alone(project: Project) -> None:
    with shell(project) as terminal:
        run_until_it_waits(terminal, [])
        terminal.type(CTRL_Z)
        terminal.until(lambda terminal: "Stopped" in terminal.text())
        before = len(terminal.raw)
        terminal.type(b"bg\n")
        (project.root / "go").touch()
        terminal.until(lambda terminal: "3 built" in terminal.text())
        assert b"\x1b[?25l" not in terminal.raw[before:]
        assert "━" not in terminal.text()
        terminal.type(b"wait; exit\n")
        assert terminal.wait() == 0


def test_a_stopped_run_can_be_ended(project: Project) -> None:
    with shell(project) as terminal:
        run_until_it_waits(terminal, ["-n", "2"])
        processes = started(terminal)
        terminal.type(CTRL_Z)
        terminal.until(lambda terminal: "Stopped" in terminal.text())
        terminal.type(b"kill %1\n")
        for process in processes:
            wait_for_end(process)
        assert not statuses(processes)
        terminal.type(b"exit\n")
        terminal.wait()
        assert not terminal.screen.cursor.hidden


@pytest.mark.parametrize("parallel", [[], ["-n", "2", "-P", "thread"]])
def test_no_program_is_stopped_before_its_run(project: Project, parallel: list[str]) -> None:
    """One that is just being started would keep the run, which waits for it, from stopping."""
    with Terminal([*DOIT, *parallel], project.root, ENVIRONMENT, 80) as terminal:
        jobs = 2 if parallel else 1
        terminal.until(lambda terminal: is_live(terminal) and len(started(terminal)) == jobs)
        for program in started(terminal):
            status = Path(f"/proc/{program.pid}/status").read_text()
            (blocked,) = re.findall(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
            assert int(blocked, 16) >> signal.SIGTSTP - 1 & 1
        (project.root / "go").touch()
        assert terminal.wait() == 0


@pytest.mark.parametrize("how", [CTRL_Z, signal.SIGTSTP])
def test_without_a_shell_nothing_is_stopped(project: Project, how: bytes | signal.Signals) -> None:
    """As in a container: who would let it go on?"""
    with Terminal(DOIT, project.root, ENVIRONMENT, 80) as terminal:
        terminal.until(lambda terminal: is_live(terminal) and len(started(terminal)) == 1)
        if isinstance(how, bytes):
            terminal.type(how)
        else:
            terminal.send(how)
        (project.root / "go").touch()
        assert terminal.wait() == 0
        assert "3 built" in terminal.text()
