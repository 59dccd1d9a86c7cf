"""Time of `doit` when there is nothing to do: for a graph of quick actions, of any size.

    python bench/no_op.py [NODES]

Builds the graph once, then runs `doit` again in new processes and prints the median wall and
CPU time beside that of a Python that only starts, and of `python -c "import doit.doit_cmd"`.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tasks.test_killed import DODO, doit_section  # noqa: E402  (after the path is set)
from tests.tasks.toy import Project, Step  # noqa: E402  (after the path is set)

ROUNDS = 7


def timed(*command: str, cwd: Path) -> tuple[float, float]:
    """Median wall and CPU seconds of a command over ROUNDS runs."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


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
        (project.root / "dodo.py").write_text(DODO.format(root=str(ROOT)))
        (project.root / "pyproject.toml").write_text(doit_section())
        values = {name: vars(step) for name, step in steps.items()}
        (project.root / "steps.json").write_text(json.dumps(values))
        doit = (sys.executable, "-m", "doit")
        started = time.perf_counter()
        subprocess.run(
            doit,
            cwd=project.root,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        print(f"build {count} nodes: {time.perf_counter() - started:.2f} s")
        for name, command in {
            "python alone": (sys.executable, "-c", "pass"),
            "import doit": (sys.executable, "-c", "import doit.doit_cmd"),
            "doit, nothing to do": doit,
            "doit plan": (*doit, "plan"),
        }.items():
            wall, cpu = timed(*command, cwd=project.root)
            print(f"{name:20} {wall:6.3f} s wall {cpu:6.3f} s CPU")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
