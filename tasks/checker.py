"""doit's view of `file_dep` for tasks that users add to dodo.py: content, hashed once.

Olmill's own tasks have no `file_dep`: their keys decide.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from doit.dependency import FileChangedChecker

from cache.local.stat_cache import StatCache


class ContentChecker(FileChangedChecker):  # type: ignore[misc]  # doit has no type information
    """Compare files by sha256, remembered by inode, size and times.

    A file is hashed once however many tasks name it, a touched file is rehashed once, and an
    edit that keeps size and modification time is noticed. The state recorded after a run is that
    of the file when the task was checked: a file edited during the run is not recorded as clean.
    """

    stat: ClassVar[StatCache]  # set once by the graph, before doit makes its checker

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def info(self, file_path: str) -> Any:
        """Hash a file before its task runs."""
        self._seen[file_path] = self.stat.digest(os.fspath(file_path)).hash
        return self._seen[file_path]

    def check_modified(self, file_path: str, file_stat: Any, state: Any) -> bool:  # noqa: ARG002  (doit's)
        """Whether the content is another than `state`."""
        return bool(file_stat != state)

    def get_state(self, dep: str, current_state: Any) -> str | None:
        """State to record for a file after its task ran."""
        state = self._seen.get(dep) or self.stat.digest(dep).hash
        return None if state == current_state else state
