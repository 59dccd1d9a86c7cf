"""Commands that are doit's own, with our way of telling mistakes."""

from __future__ import annotations

from typing import Any

from doit.cmd_clean import Clean as DoitClean
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.exceptions import InvalidCommand

from tasks.commands.explained import Explained


class List(Explained, DoitList):  # type: ignore[misc]  # doit has no type information
    """`doit list`."""


class Clean(Explained, DoitClean):  # type: ignore[misc]  # doit has no type information
    """`doit clean`."""


class Ignore(Explained, DoitIgnore):  # type: ignore[misc]  # doit has no type information
    """`doit ignore`."""


class Info(Explained, DoitInfo):  # type: ignore[misc]  # doit has no type information
    """`doit info TASK`."""

    def _execute(self, pos_args: Any, hide_status: bool = False) -> int | None:
        known = {task.name for task in self.task_list}
        for name in pos_args[:1]:
            if name not in known:
                raise InvalidCommand(not_found=name)
        result: int | None = super()._execute(pos_args, hide_status)
        return result
