"""`doit why`: the reason a node is stale."""

from __future__ import annotations

from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from tasks.commands.node_command import NodeCommand
from tasks.explain import draw, why
from tasks.keys import fields
from tasks.session import Session
from tasks.state import ACTION


class Why(NodeCommand):
    """`doit why TASK`: the reason a node is stale, down to its root cause."""

    doc_purpose = "show why a task is stale, field by field"
    doc_usage = "TASK"
    cmd_options: ClassVar[Any] = (
        {
            "name": "show_inputs",
            "long": "inputs",
            "type": bool,
            "default": False,
            "help": "show every field of the task's key",
        },
        {
            "name": "show_key",
            "long": "key",
            "type": bool,
            "default": False,
            "help": "show the task's key and nothing else",
        },
    )

    def _execute(
        self, session: Session, show_inputs: bool, show_key: bool, pos_args: list[str]
    ) -> int:
        name = self._one(session, pos_args)
        assessed = self._decided(session, [name])[name]
        if show_key or show_inputs:
            if assessed.keyed is None:
                raise InvalidCommand(f"{name} has no key yet: it is {assessed.reason}")
            print(assessed.keyed.key.hash)
            if show_inputs:
                for field, value in fields(assessed.keyed).items():
                    print(f"  {field}: {value}")
            return 0
        recorded = self.dep_manager.backend.get
        print(draw(why(session, lambda task: recorded(task, ACTION), name)))
        return 0
