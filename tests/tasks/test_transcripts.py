"""What is shown, word for word: tests/golden/transcripts is its specification.

With OLMILL_UPDATE_GOLDEN=1 the transcripts are written anew and the tests are skipped. Times that
were measured are given as 0.1 s; nodes are said to take half a minute each.
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cache.memory import MemoryTransport
from cache.remote.store import RemoteStore
from tasks.state import DURATION
from tests.tasks.toy import Project, Step
from tests.tasks.toy_directory import ROOT, write

GOLDEN = Path(__file__).resolve().parents[1] / "golden/transcripts"
TAKES = 30.0  # seconds that each node is said to have taken
STEPS = {
    "a": Step("A", ["one.txt"]),
    "b": Step("B", ["a"]),
    "c": Step("C", ["a"], keep=1),
    "d": Step("D", ["b", "c"], dist=True),
}


class Transcript:
    """Commands of a project and what they say, as it is to be."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self.project = project
        self.capsys = capsys
        self.text = ""

    def doit(self, *arguments: str, code: int = 0) -> None:
        """Run a command, and write down what it says; nodes seem to take their time."""
        self.capsys.readouterr()
        assert self.project.doit(*arguments) == code
        shown = self.capsys.readouterr()
        self.add(arguments, shown.out + shown.err, code)
        record = self.project.root / "build/state.sqlite"
        self.take_time(record)

    def take_time(self, record: Path) -> None:
        connection = sqlite3.connect(record)
        with connection:
            connection.execute("update aside set value = ? where entry = ?", (TAKES, DURATION))
        connection.close()

    def add(self, arguments: tuple[str, ...], said: str, code: int) -> None:
        here = os.path.relpath(self.project.root)
        said = said.replace(f"{here}/", "")
        said = re.sub(r"\(\d+\.\d s\)", "(0.1 s)", said)
        said = re.sub(r"(FAILED \S+) \(\d+ s\)", r"\1 (0 s)", said)
        said = re.sub(r"^\[\d.*still running.*\n", "", said, flags=re.MULTILINE)
        ends = f"[exit code {code}]\n" if code else ""
        self.text += f"$ {' '.join(['doit', *arguments])}\n{said}{ends}"

    def note(self, text: str) -> None:
        """Write down what happens between two commands."""
        self.text += f"\n# {text}\n"

    def check(self, name: str) -> None:
        """Hold the transcript against the golden one."""
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("OLMILL_UPDATE_GOLDEN") == "1":
            path.write_text(self.text)
            pytest.skip("the transcript is new: look at the difference")
        assert self.text == path.read_text()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def project_at(place: Path, transport: MemoryTransport | None = None) -> Project:
    made = Project(place / "project", place / "cache", dict(STEPS))
    (made.source / "one.txt").write_text("1")
    if transport is not None:
        made.remote = lambda: RemoteStore(transport)
    return made


@pytest.fixture
def transcript(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Transcript:
    return Transcript(project_at(tmp_path), capsys)


def test_first_build(transcript: Transcript) -> None:
    transcript.doit()
    transcript.check("first-build")


def test_nothing_to_do(transcript: Transcript) -> None:
    transcript.project.doit()
    transcript.take_time(transcript.project.root / "build/state.sqlite")
    transcript.doit()
    transcript.check("no-op")


def test_one_edit(transcript: Transcript) -> None:
    transcript.project.doit()
    transcript.take_time(transcript.project.root / "build/state.sqlite")
    transcript.note("the parameters of c change, its output does not")
    transcript.project.steps["c"] = Step("CXX", ["a"], keep=1)
    transcript.doit()
    transcript.note("the parameters of b change, and its output")
    transcript.project.steps["b"] = Step("X", ["a"])
    transcript.doit()
    transcript.note("and change back")
    transcript.project.steps["b"] = STEPS["b"]
    transcript.doit()
    transcript.check("one-edit")


def test_why(transcript: Transcript) -> None:
    transcript.project.doit()
    transcript.note("the file that a reads changes")
    (transcript.project.source / "one.txt").write_text("2")
    transcript.doit("why", "step:d")
    transcript.check("why")


def test_failure_with_continue(transcript: Transcript) -> None:
    code = transcript.project.root / "toyactions/concat.py"
    told = "        import os; os.write(2, b'one\\n\\033[31mtwo\\033[0m\\n')\n        raise Runtime"
    code.write_text(code.read_text().replace("        raise Runtime", told))
    transcript.project.steps |= {"b": Step("B", ["a"], fail=True), "e": Step("E", fail=True)}
    transcript.doit("--continue", code=1)
    transcript.note("one of them is mended")
    transcript.project.steps["e"] = Step("E")
    transcript.doit(code=1)
    transcript.check("failure-with-continue")


def test_remote_hits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transport = MemoryTransport()
    first = project_at(tmp_path / "first", transport)
    first.writes = True
    assert first.doit() == 0
    transcript = Transcript(project_at(tmp_path / "second", transport), capsys)
    transcript.note("another machine has built it all")
    transcript.doit()
    transcript.doit()
    transcript.note("an action here needs what was left there")
    transcript.project.steps["d"] = Step("X", ["b", "c"], dist=True)
    transcript.doit()
    transcript.check("remote-hits")


def test_interrupted_build(transcript: Transcript) -> None:
    """In a process of its own, which the second node interrupts."""
    project = transcript.project
    code = project.root / "toyactions/concat.py"
    there = project.root / "interrupting"
    there.touch()
    kill = (
        f"    if params['text'] == 'B' and Path({str(there)!r}).exists():\n"
        f"        import os; os.kill(os.getpid(), {int(signal.SIGINT)})\n"
    )
    head, found, rest = code.read_text().partition("    text = params")
    write(project, head + kill + found + rest)
    for note, expected in (("Ctrl-C, while b is being built", 130), (None, 0)):
        if note is None:
            there.unlink()
        done = subprocess.run(
            [sys.executable, "-m", "doit"],
            cwd=project.root,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        if note is not None:
            transcript.note(note)
        transcript.add((), done.stderr, expected)
    transcript.check("interrupted-build")
