"""A copy of the project with a matrix and a checkpoint of its own: for tests of the real chain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.display.event_log import executed

ROOT = Path(__file__).resolve().parents[1]
PUB_A = ROOT / "tests" / "golden" / "pub-a"


@dataclass
class Clone:
    """A project directory over a store that others may share."""

    root: Path
    cache: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def doit(
        self, *arguments: str, interpreter: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *interpreter, "-m", "doit", *arguments],
            cwd=self.root,
            env={
                **os.environ,
                "OLMILL_CACHE_DIR": str(self.cache),
                "TERM": "dumb",
                **self.environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self, *arguments: str) -> set[str]:
        """Build everything; returns the nodes whose action ran."""
        done = self.doit(*arguments)
        assert done.returncode == 0, done.stderr
        return set(executed(self.root))

    def edit(self, path: str, change: Callable[[str], str]) -> None:
        file = self.root / path
        before = file.read_text()
        after = change(before)
        assert after != before
        file.write_text(after)

    def dist(self) -> dict[str, bytes]:
        """Everything that users take away."""
        dist = self.root / "dist"
        return {str(p.relative_to(dist)): p.read_bytes() for p in dist.rglob("*") if p.is_file()}


def clone(
    root: Path, cache: Path, matrix: str, environment: Mapping[str, str] | None = None
) -> Clone:
    """Copy the project to `root`, with pub-a as `checkpoint/` and `matrix` as its matrix."""
    root.mkdir(parents=True)
    for name in ("cache", "olmo", "tasks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(PUB_A, root / "checkpoint")
    (root / "matrix.toml").write_text(matrix)
    return Clone(root, cache, environment or {})
