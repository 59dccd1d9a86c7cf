"""A toy project as a directory in which `doit` runs, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.toy import Project

ROOT = Path(__file__).resolve().parents[2]

# waits on standard output, one line for each finished node
DODO = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from cache.local.store import LocalStore
from cache.tiered import TieredStore
from tests.tasks.toy import Project, Step
from tasks.graph import doit_config, doit_tasks, session

here = Path(__file__).parent
steps = {{n: Step(**s) for n, s in json.loads((here / "steps.json").read_text()).items()}}
project = Project(here, here.parent / "cache", steps)
if (here / "concat.py").exists():
    (here / "toyactions/concat.py").write_bytes((here / "concat.py").read_bytes())
SESSION = session(here, project.graph(), TieredStore(LocalStore(project.cache)), code_root=here)
DOIT_CONFIG = doit_config(SESSION)

def task_steps():
    yield from doit_tasks(SESSION)
"""


def write(project: Project, code: str | None = None) -> None:
    """Write what `doit` reads in the directory of a project, with another code of its action."""
    (project.root / "dodo.py").write_text(DODO.format(root=str(ROOT)))
    (project.root / "pyproject.toml").write_text(doit_section())
    write_steps(project)
    if code is not None:
        (project.root / "concat.py").write_text(code)
        (project.root / "toyactions/concat.py").write_text(code)


def write_steps(project: Project) -> None:
    """Write the steps as they are now."""
    steps = {name: vars(step) for name, step in project.steps.items()}
    (project.root / "steps.json").write_text(json.dumps(steps))


def doit_section() -> str:
    """The plugins, as the project's own pyproject.toml names them."""
    text = (ROOT / "pyproject.toml").read_text()
    return text[text.index("[tool.doit.plugins.command]") :]
