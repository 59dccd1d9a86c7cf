"""The tasks doit sees: one for each node of the graph that matrix.toml describes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.graph import doit_config, doit_tasks, open_session

SESSION = open_session(Path(__file__).resolve().parent)
DOIT_CONFIG = doit_config(SESSION)


def task_nodes() -> Iterator[dict[str, Any]]:
    """Yield every step from a checkpoint to dist/."""
    yield from doit_tasks(SESSION)
