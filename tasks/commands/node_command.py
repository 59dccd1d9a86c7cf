"""What Olmill's own doit commands share.

Data goes to the standard output, everything else to the standard error stream. Exit codes are
doit's: 0 well, 1 not, 2 an error in building, 3 an error before anything began.
"""

from __future__ import annotations

import getopt
import sys
from contextlib import nullcontext
from typing import Any, ClassVar

from doit.cmd_base import DoitCmdBase
from doit.exceptions import InvalidCommand

from cache.errors import CacheError
from cache.tiered import TieredStore
from tasks.commands.explained import Explained
from tasks.graph import message
from tasks.session import Session
from tasks.state import to_run_again
from tasks.waiting import waiting

JSON = {
    "name": "as_json",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON on the standard output",
}


class NodeCommand(Explained, DoitCmdBase):  # type: ignore[misc]  # doit has no type information
    """A command about nodes; `tell(session, …)` is its body."""

    doc_description: ClassVar[str | None] = None
    only_waits: ClassVar[bool] = True  # it may end at any moment, having started nothing
    cmd_options: ClassVar[Any] = ()

    def parse_execute(self, in_args: list[str]) -> int:
        """Accept options after the arguments too, as people type them; doit stops at the first."""
        long = self.cmdparser.get_long()
        try:
            given, arguments = getopt.gnu_getopt(in_args, self.cmdparser.get_short(), long)
        except getopt.GetoptError:
            return int(super().parse_execute(in_args))  # doit says what is wrong
        options = [
            f"{option}={value}" if f"{option[2:]}=" in long else option + value
            for option, value in given
        ]
        return int(super().parse_execute([*options, "--", *arguments]))

    def execute(self, params: Any, args: Any) -> int:
        """Execute without doit's tasks, which only a run needs: of a large graph they fill the memory."""
        self.loader.load_tasks = lambda **_: []
        with waiting() if self.only_waits else nullcontext():
            return int(super().execute(params, args) or 0)

    def tasks(self) -> list[str]:
        """Return the names of the nodes."""
        return list(self.loader.load_doit_config()["session"].workspace.graph.nodes)

    def _decided(self, session: Session, names: list[str]) -> dict[str, Any]:
        """Assess the nodes that the arguments name, or all of them."""
        if names:
            names = [found for name in names for found in self._expand(session, name)]
        session.rebuild = to_run_again(self.dep_manager.backend, session.workspace.graph.nodes)
        try:
            decided = session.decide(self.dep_manager.get_values, names or None, names)
        except CacheError as error:
            raise InvalidCommand(message(error)) from None
        self._tell(session)
        return decided

    def _tell(self, session: Session) -> None:
        """Close the connections of the store, and say what there is to say of them."""
        session.workspace.shared.close()
        self._warn(session.workspace.shared)

    @staticmethod
    def _warn(shared: TieredStore) -> None:
        for text in shared.warnings():
            sys.stderr.write(f"warning: {text}\n")

    @staticmethod
    def _expand(session: Session, name: str) -> list[str]:
        nodes = session.workspace.graph.nodes
        if name in nodes:
            return [name]
        group = [found for found in nodes if found.startswith(f"{name}:")]
        if not group:
            raise InvalidCommand(not_found=name)
        return group

    def _one(self, session: Session, names: list[str]) -> str:
        if len(names) != 1:
            raise InvalidCommand(f"`{self.name}` is about one task: doit {self.name} TASK")
        if names[0] not in session.workspace.graph.nodes:
            raise InvalidCommand(not_found=names[0])
        return names[0]
