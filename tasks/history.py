"""Why nodes were made: told where that is decided, kept with the success, for those who ask later."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tasks.assess import KEY_CHANGED, NEVER_BUILT, Assessment
from tasks.differences import Fields, differences
from tasks.keys import Keyed, fields
from tasks.state import ACTION, REASON, RUN, StateDB
from tasks.workspace import Workspace

UNRECORDED = "its last success is not recorded any more: it failed since, or was cleaned"


@dataclass(frozen=True)
class Cause:
    """A cause in words; of an input that changed also the node that makes it."""

    text: str
    producer: str | None = None


@dataclass(frozen=True)
class Told:
    """Why and how a node was made, in the run of that number.

    how: built, local or remote, as in `tasks.realise`.
    """

    run: int
    how: str
    causes: tuple[Cause, ...]


def causes(workspace: Workspace, assessed: Assessment, old: Fields | None) -> list[Cause]:
    """Return the causes of a node's state, at least one: `old` are the fields of its last Action."""
    if old is None or assessed.keyed is None:
        return [Cause(assessed.reason)]
    found = changes(workspace, assessed.keyed, old)
    if assessed.reason == KEY_CHANGED and found:
        return found
    return [Cause(UNRECORDED if assessed.reason == NEVER_BUILT else assessed.reason), *found]


def changes(
    workspace: Workspace, keyed: Keyed, old: Fields, unknown: Collection[str] = ()
) -> list[Cause]:
    """Return what differs between a node's last Action and this one; `unknown` fields are left out."""
    inputs, found = keyed.inputs, []
    for one in differences(old, fields(keyed), unknown):
        place = one.field.removeprefix("input ")
        given = inputs.get(place) if place != one.field else None
        source = workspace.graph.sources.get(given.producer) if given is not None else None
        if given is not None and source is not None:
            path = _readable(source.root / given.path, workspace.root)
            text = one.text if path in one.text else f"{one.text}, read from {path}"
            found.append(Cause(text))
        else:
            found.append(Cause(one.text, given.producer if given is not None else None))
    return found


def tell(workspace: Workspace, state: StateDB, run: int, how: str, assessed: Assessment) -> None:
    """Record why a node was made, before its new Action is."""
    found = causes(workspace, assessed, state.get(assessed.node.name, ACTION))
    value = {"run": run, "how": how, "causes": [[one.text, one.producer] for one in found]}
    state.set(assessed.node.name, REASON, value)


def told(state: StateDB, name: str) -> Told | None:
    """Return why a node was made when it last was, None if that is not recorded."""
    value = state.get(name, REASON)
    if value is None:
        return None
    return Told(value["run"], value["how"], tuple(Cause(*one) for one in value["causes"]))


def begin_run(state: StateDB) -> int:
    """Return the number of a new run."""
    run = int(state.get("", RUN) or 0) + 1
    state.set("", RUN, run)
    return run


def _readable(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
