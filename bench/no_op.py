"""Time of `doit` when there is nothing to do: for a graph of quick actions, of any size.

    python bench/no_op.py [NODES | --here]

Builds the graph once, then runs `doit` again in new processes, all commands in turn, and prints the
median wall and CPU time beside that of a Python that only starts, and of `python -c "import
doit.doit_cmd"`. Python may write its bytecode, as it does for anybody who does not forbid it. In a
project directory that is built (`--here`), its own no-op is measured.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tasks.toy import Project, Step  # noqa: E402  (after the path is set)
from tests.tasks.toy_directory import write  # noqa: E402  (as above)

ROUNDS = 7


DOIT = (sys.executable, "-m", "doit")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPATH": str(ROOT),
}


def main(count: int) -> None:
    """Build a graph of `count` nodes, each of which reads up to three earlier ones; time no-ops."""
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        steps = {
            f"s{i:05d}": Step(
                f"{i}", sorted({f"s{j:05d}" for j in (i // 2, i // 3, i - 7) if 0 <= j < i}), 64
            )
            for i in range(count)
        }
        project = Project(base / "p", base / "cache", steps)
        write(project)
        started = time.perf_counter()
        run(DOIT, project.root)
        print(f"build {count} nodes: {time.perf_counter() - started:.2f} s")
        compare(project.root)


def compare(directory: Path) -> None:
    """Time what does nothing in a directory where everything is built."""
    commands = {
        "python alone": (sys.executable, "-c", "pass"),
        "import doit": (sys.executable, "-c", "import doit.doit_cmd"),
        "doit, nothing to do": DOIT,
        "doit plan": (*DOIT, "plan"),
        "doit status": (*DOIT, "status"),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            figures[name].append(timed(command, directory))
    for name, rounds in figures.items():
        wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name:20} {wall:6.3f} s wall {cpu:6.3f} s CPU")


def timed(command: Sequence[str], directory: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run(command, directory)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(command: Sequence[str], directory: Path) -> None:
    """Run a command; its output is not looked at."""
    subprocess.run(command, cwd=directory, env=ENVIRONMENT, check=True, capture_output=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--here"]:
        compare(Path.cwd())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
