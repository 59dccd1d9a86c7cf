"""`doit graph`: what is built from what, and the state of each node."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from tasks.commands.node_command import NodeCommand
from tasks.drawing.svg import svg
from tasks.drawing.text import dot, tree
from tasks.session import Session


class Graph(NodeCommand):
    """`doit graph [TASK …]`: the build graph, as text or as a picture."""

    doc_purpose = "show what is built from what, as a tree, an SVG picture or DOT"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (
        {
            "name": "picture",
            "long": "svg",
            "type": str,
            "default": "",
            "help": "write an SVG picture to this file",
        },
        {
            "name": "as_dot",
            "long": "dot",
            "type": bool,
            "default": False,
            "help": "print Graphviz's language",
        },
        {
            "name": "every",
            "long": "all",
            "type": bool,
            "default": False,
            "help": "show every node, however many; else those of a kind that are named alike are one",
        },
    )

    def _execute(
        self, session: Session, picture: str, as_dot: bool, every: bool, pos_args: list[str]
    ) -> int:
        decided = self._decided(session, pos_args)
        states = {name: assessed.state.value for name, assessed in decided.items()}
        graph = session.workspace.graph
        if picture:
            try:
                Path(picture).write_text(svg(graph, states, every=every), encoding="utf-8")
            except OSError as error:
                raise InvalidCommand(f"cannot write {picture}: {error.strerror}") from None
        if as_dot or not picture:
            print((dot if as_dot else tree)(graph, states, every=every))
        return 0
