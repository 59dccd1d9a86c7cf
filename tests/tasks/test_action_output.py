"""What actions write by themselves is in logs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.action_output import last_lines, written_to
from tests.tasks.toy import Project, Step


def test_what_this_process_and_others_write_is_in_the_file(tmp_path: Path) -> None:
    log = tmp_path / "logs/a.log"
    with written_to(log):
        os.write(1, b"one\n")
        os.write(2, b"two\n")
        subprocess.run([sys.executable, "-c", "print('three')"], check=True)
    os.write(1, b"")
    assert log.read_text() == "one\ntwo\nthree\n"
    with written_to(log):
        pass
    assert not log.exists()


def test_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"".join(b"line %d \n" % number for number in range(100_000)) + b"\xff\n")
    assert last_lines(log, 2) == ("line 99999", "\ufffd")
    assert last_lines(tmp_path / "none", 2) == ()


LOUD = "    import os\n    os.write(2, b'from C ' * 2 + params['text'].encode() + b'\\n')\n"


@pytest.mark.parametrize("parallel", [[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
def test_nothing_comes_between_the_lines_of_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], parallel: list[str]
) -> None:
    steps = {"a": Step("A"), "b": Step("B", fail=True), "c": Step("C")}
    project = Project(tmp_path / "project", tmp_path / "cache", steps)
    code = project.root / "toyactions/concat.py"
    code.write_text(code.read_text().replace("    if params.get", LOUD + "    if params.get", 1))
    project.doit("--continue", *parallel)
    shown = capfd.readouterr()
    assert shown.out == ""
    logs = project.root / "build/logs"
    if "thread" in parallel:
        assert "from C" not in shown.err
        written = (logs / "threads.log").read_text().splitlines()
        assert sorted(written) == [f"from C from C {text}" for text in "ABC"]
        return
    # Below the failure, and again at the end unless nothing came between.
    below = shown.err.count("  | from C from C B\n")
    assert 1 <= below <= 2
    assert shown.err.count("from C from C") == below
    assert (logs / "step/a.log").read_text() == "from C from C A\n"
    text = (logs / "step/b.log").read_text()
    assert text.startswith("from C from C B\nTraceback")
