"""`doit cache WHAT`: look after the store; each subcommand is a command in a module of its own."""

from __future__ import annotations

import importlib
from typing import Any

from doit.exceptions import InvalidCommand

from olmo.errors import unknown
from tasks.commands.explained import HELP
from tasks.commands.node_command import NodeCommand
from tasks.graph import message

SUBCOMMANDS = {
    "audit": "tasks.commands.cache_audit:Audit",
    "gc": "tasks.commands.cache_gc:Gc",
    "keygen": "tasks.commands.cache_keygen:Keygen",
    "pull": "tasks.commands.cache_transfer:Pull",
    "push": "tasks.commands.cache_transfer:Push",
    "sign": "tasks.commands.cache_sign:Sign",
    "stats": "tasks.commands.cache_stats:Stats",
    "verify": "tasks.commands.cache_verify:Verify",
}


class Cache(NodeCommand):
    """`doit cache WHAT`: one of the subcommands, with options and arguments of its own."""

    doc_purpose = "look after the cache: " + ", ".join(SUBCOMMANDS)
    doc_usage = f"{'|'.join(SUBCOMMANDS)} ..."

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kwargs = kwargs

    def parse_execute(self, in_args: list[str]) -> int:
        """Hand over to the subcommand that is named first."""
        if not in_args:
            raise InvalidCommand(f"which? doit cache {self.doc_usage}")
        if in_args[0] in HELP:
            print(self.help())
            return 0
        if in_args[0] not in SUBCOMMANDS:
            raise InvalidCommand(message(unknown("subcommand", in_args[0], SUBCOMMANDS)))
        return self._subcommand(in_args[0]).parse_execute(in_args[1:])

    def help(self) -> str:
        """Return the help of all subcommands."""
        return "\n\n\n".join(self._subcommand(name).help() for name in SUBCOMMANDS)

    def _subcommand(self, name: str) -> NodeCommand:
        module, _, attribute = SUBCOMMANDS[name].partition(":")
        made: NodeCommand = getattr(importlib.import_module(module), attribute)(**self._kwargs)
        return made
