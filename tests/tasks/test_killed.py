"""kill -9 at random moments: the next run succeeds, and nothing that was finished is lost."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.tasks.toy import Project, Step, evaluate
from tests.tasks.toy_directory import ROOT, write, write_steps

ROUNDS = 30


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "doit", *arguments],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_killed_builds_go_on(tmp_path: Path) -> None:
    chance = random.Random(20261121)  # noqa: S311  (a fixed seed, for the same test every time)
    steps = {
        f"s{i:02d}": Step(f"<{i}>", [f"s{j:02d}" for j in range(max(0, i - 3), i)], keep=200)
        for i in range(14)
    }
    steps |= {f"b{i}": Step(f"[{i}]", ["s05"], batch=True) for i in range(3)}
    project = Project(tmp_path / "p", tmp_path / "cache", dict(steps))
    write(project)
    finished: set[str] = set()
    for round_number in range(ROUNDS):
        if len(finished) == len(steps):  # all done: change the text, so that there is work again
            finished = set()
            for step in project.steps.values():
                step.text += f"{round_number}"
        write_steps(project)
        parallel = chance.choice([[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
        lines, extra, whole_group = (
            chance.randrange(12),
            chance.random() * 0.02,
            chance.random() < 0.7,
        )
        with start(project, *parallel) as process:
            said = kill_after(process, lines, extra, whole_group)
        built = {line.split()[1].removeprefix("step:") for line in said if line.startswith("built")}
        assert not built & finished, "a finished node was built again"
        finished |= built
    with start(project) as process:
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert project.contents() == evaluate(project.steps, {})
    leftovers = [
        path
        for directory in (
            project.root / "build",
            project.root / "build/tmp",
            project.cache / "v1/tmp",
        )
        for path in directory.glob("*")
        if (path.is_dir() and directory.name == "tmp") or path.name.endswith(".tmp")
    ]
    assert leftovers == []


def kill_after(
    process: subprocess.Popen[str], lines: int, extra: float, whole_group: bool
) -> list[str]:
    """Read so many lines of the run's report, wait a little, then kill doit or all of its workers."""
    assert process.stderr is not None
    said = []
    for _ in range(lines):
        line = process.stderr.readline()
        if not line:
            break
        said.append(line)
    try:
        process.wait(timeout=extra)
    except subprocess.TimeoutExpired:
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()  # its workers notice
    rest = process.stderr.read()
    process.wait()
    return said + rest.splitlines()
