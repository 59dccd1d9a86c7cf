"""`doit check`: build nodes again, elsewhere, and compare bytes."""

from __future__ import annotations

from collections.abc import Collection

from doit.exceptions import InvalidCommand

from cache.errors import CacheError
from olmo.errors import OlmoError
from tasks.commands.node_command import NodeCommand
from tasks.errors import BuildError
from tasks.graph import message
from tasks.keys import Input, made
from tasks.realise import execute, outputs_of
from tasks.session import Session


class Check(NodeCommand):
    """`doit check TASK …`: build nodes again, elsewhere, and compare bytes."""

    only_waits = False
    doc_purpose = "rebuild tasks in a fresh directory and compare with what is recorded"
    doc_usage = "TASK ..."

    def _execute(self, session: Session, pos_args: list[str]) -> int:
        if not pos_args:
            raise InvalidCommand("`check` needs tasks: doit check TASK ...")
        wrong = 0
        for name in [found for arg in pos_args for found in self._expand(session, arg)]:
            try:
                with session.workspace.store.lease():
                    different = compare(session, name)
            except (BuildError, CacheError, OlmoError) as error:
                print(f"failed    {name}: {message(error)}")
                wrong += 1
                continue
            wrong += bool(different)
            verdict = "DIFFERENT" if different else "identical"
            print(f"{verdict} {name}" + "".join(f"\n  {path}" for path in different))
        return int(wrong > 0)


def compare(session: Session, name: str) -> list[str]:
    """Run a node's action again in a fresh directory; returns the outputs that came out differently.

    Raises BuildError if the node is not built.
    """
    workspace = session.workspace
    node = workspace.graph.nodes[name]
    keyed = session.keys.keyed(node, lambda selection: outputs_of(workspace, selection))
    recorded = workspace.shared.get_result(keyed.key)
    if recorded is None:
        raise BuildError(f"{name} is not built: nothing to compare with", f"run: doit {name}")
    (again,), _ = execute(workspace, [keyed], _refuse_lost)
    before, after = made(recorded), made(again)
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def _refuse_lost(lost: Collection[Input]) -> None:
    given = next(iter(lost))
    raise BuildError(f"{given.path} of {given.producer} is lost", f"run: doit {given.producer}")
