"""`doit why`: the reason a node is stale, or was made."""

from __future__ import annotations

from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from tasks.commands.node_command import NodeCommand
from tasks.explain import draw, why, why_last
from tasks.keys import fields
from tasks.session import Session
from tasks.state import ACTION, StateDB


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
        {
            "name": "last",
            "long": "last",
            "type": bool,
            "default": False,
            "help": "show why the task was made when it last was",
        },
    )

    def _execute(
        self, session: Session, show_inputs: bool, show_key: bool, last: bool, pos_args: list[str]
    ) -> int:
        state = self.dep_manager.backend
        if len(pos_args) == 1 and _removed(session, state, pos_args[0]):
            print(f"{pos_args[0]} is not in the matrix any more: nothing builds it")
            return 0
        name = self._one(session, pos_args)
        if last:
            print(draw(why_last(session, state, name)))
            return 0
        assessed = self._decided(session, [name])[name]
        if show_key or show_inputs:
            if assessed.keyed is None:
                raise InvalidCommand(f"{name} has no key yet: it is {assessed.reason}")
            print(assessed.keyed.key.hash)
            if show_inputs:
                for field, value in fields(assessed.keyed).items():
                    print(f"  {field}: {value}")
            return 0
        print(draw(why(session, state, name)))
        return 0


def _removed(session: Session, state: StateDB, name: str) -> bool:
    """Whether a task is no part of the graph, and was built here when it was."""
    return name not in session.workspace.graph.nodes and state.get(name, ACTION) is not None
