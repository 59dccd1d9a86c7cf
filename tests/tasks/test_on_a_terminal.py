"""Whole runs in a pseudo-terminal: what is on the screen when they are over, and meanwhile."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.tasks.pseudo_terminal import Terminal
from tests.tasks.toy import Project, Step
from tests.tasks.toy_directory import ROOT, write

PARALLEL = [[], ["-n", "4"], ["-n", "4", "-P", "thread"]]
STEPS = {
    "a": Step("A"),
    "b-with-a-name-that-is-longer-than-a-narrow-terminal-has-room-for": Step("B", ["a"]),
    "c": Step("C", ["a"]),
    "d": Step("D", ["a"]),
    "e": Step("E", ["a"], fail=True),
}
# Every action is loud, past Python's streams too, and all but the first wait for a file.
LOUD = """    import os, sys, time
    print("from Python", flush=True)
    os.write(2, b"\\x1b[2Jfrom C\\n" * 3)
    while params["text"] != "A" and not Path({go!r}).exists():
        time.sleep(0.02)
    if params.get("fail"):
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "p", tmp_path / "cache", dict(STEPS))
    code = (made.root / "toyactions/concat.py").read_text()
    loud = LOUD.format(go=str(made.root / "go"))
    write(made, code.replace('    if params.get("fail"):\n', loud, 1))
    return made


def start(project: Project, columns: int, *arguments: str, **environment: str) -> Terminal:
    base = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS"):
        base.pop(name, None)
    command = [sys.executable, "-m", "doit", "--continue", *arguments]
    return Terminal(command, project.root, {**base, **environment}, columns)


def unwrapped(lines: list[str], columns: int) -> list[str]:
    """Lines as they were written, where the terminal has wrapped them."""
    found: list[str] = []
    full = False
    for line in lines:
        if full:
            found[-1] += line
        else:
            found.append(line)
        full = len(line) == columns
    return [re.sub(r"\(\d+(\.\d)? s\)", "(1 s)", line) for line in found]


FAILED = [
    "FAILED step:e (1 s)",
    "  RuntimeError: told to fail",
    "  | from Python",
    "  | from C",
    "  | from C",
    "  | from C",
    "  log: build/logs/step/e.log",
    "  again: doit step:e",
    "  hint: this is a defect of Olmill; please report it with the log",
]


PLAN = {
    100: ["plan: 5 nodes, 0 cached, 0 remote, 1 to build, 4 after those"],
    40: ["plan: 5 nodes, 0 cached, 0 remote, 1 to", "  build, 4 after those"],
}
LAST = {
    100: ["5 nodes: 0 local, 0 remote, 4 built, 1 failed (1 s)"],
    40: ["5 nodes: 0 local, 0 remote, 4 built,", "  1 failed (1 s)"],
}


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(("columns", "then"), [(100, 40), (40, 100)])
def test_only_whole_lines_are_left(
    project: Project, parallel: list[str], columns: int, then: int
) -> None:
    with start(project, columns, *parallel) as terminal:
        bar = re.compile(r"[━╸╺]+ *1/5  \d")

        def all_wait(terminal: Terminal) -> bool:
            """What is read ends anywhere, so all of it has to be there at the same time."""
            rows = live(terminal).splitlines()
            done = "built  step:a" in terminal.text()
            return done and len(rows) == (5 if parallel else 2) and bar.match(rows[0]) is not None

        terminal.until(all_wait)
        assert all(len(line) < columns for line in live(terminal).splitlines())
        assert "from" not in terminal.text()
        assert terminal.screen.cursor.hidden
        terminal.resize(then)
        (project.root / "go").touch()
        assert terminal.wait() == 1
        assert not terminal.screen.cursor.hidden
        lines = terminal.lines()
    head = PLAN[columns]
    assert lines[: len(head)] == [
        line[:then].rstrip() for line in head
    ]  # this terminal cuts lines off
    lines = unwrapped(lines[len(head) :], then)
    failed = [line for line in FAILED if "thread" not in parallel or "from" not in line]
    last = LAST[then]
    assert lines[-len(last) :] == last
    lines = lines[: -len(last)]
    if "" in lines:  # something was said after the failure
        assert lines[lines.index("") :] == ["", *failed]
        lines = lines[: lines.index("")]
    built = [f"built  step:{name} (1 s)" for name in STEPS if name != "e"]
    assert sorted(lines) == sorted([*built, *failed])


def live(terminal: Terminal) -> str:
    """What changes in place now: the lines from the one with the bar on."""
    lines = terminal.lines()
    bars = [number for number, line in enumerate(lines) if line.startswith(("━", "╸"))]
    return "\n".join(lines[bars[-1] :]) if bars else ""


def test_no_color(project: Project) -> None:
    (project.root / "go").touch()
    with start(project, 80, NO_COLOR="1") as terminal:
        terminal.wait()
        raw = terminal.raw.decode()
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", raw) for code in found.split(";")}
    assert codes <= {"0", "2"}
    assert "\x1b[?25l" in raw


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}])
def test_a_dumb_terminal_gets_plain_lines(project: Project, environment: dict[str, str]) -> None:
    (project.root / "go").touch()
    with start(project, 80, TERM="dumb", **environment) as terminal:
        terminal.wait()
        raw = terminal.raw.decode()
    assert "start  step:a\r\n" in raw
    plain = re.sub(r"\x1b\[[\d;]*m", "", raw)
    assert "\x1b" not in plain
    assert (plain == raw) == (not environment)
