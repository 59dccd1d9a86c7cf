"""doit's `forget`, made to forget."""

from __future__ import annotations

from typing import Any

from doit.cmd_forget import Forget as DoitForget
from doit.exceptions import InvalidCommand

from tasks.commands.explained import Explained


class Forget(Explained, DoitForget):  # type: ignore[misc]  # doit has no type information
    """doit's `forget`: the task runs again, even if the store has its result."""

    name = "forget"

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> Any:
        if not (self.sel_tasks or forget_all):
            raise InvalidCommand(
                "`forget` needs tasks\nhint: doit forget TASK, or doit forget --all"
            )
        self.dep_manager.remove = self.dep_manager.backend.forget
        return super()._execute(forget_sub, forget_disable_default, forget_all)
