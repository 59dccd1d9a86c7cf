"""Decide, without running anything, what each node of the graph needs and why.

Keys chain through results: a node whose producers' outputs are known has a key, and a known key
has a result or needs a build. Downstream of a build nothing is known, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from cache.digest import Digest
from tasks.errors import BuildError
from tasks.keys import Keyed, Keys, OutputsOf, made
from tasks.node import Node, Selection, producers
from tasks.workspace import Workspace, damaged, read_receipt, receipt_hash, source_outputs


class State(Enum):
    """What a node needs."""

    CURRENT = "current"  # its receipt and files are right
    CACHED = "cached"  # the store has its result; files have to be put in place
    STALE = "stale"  # its action has to run
    WAITING = "waiting"  # unknown until a producer is built
    BROKEN = "broken"  # it cannot be keyed: a source is missing


@dataclass(frozen=True)
class Assessment:
    """State of one node, the reason where it is not current, and its key and outputs if known."""

    node: Node
    state: State
    reason: str = ""
    keyed: Keyed | None = None
    outputs: Mapping[str, Digest] | None = None


@dataclass(frozen=True)
class Record:
    """The last success of a node: hash of its key, sha256 of its receipt."""

    key: str
    receipt: str


Recorded = Callable[[str], Record | None]  # by node name


def assess(
    workspace: Workspace,
    keys: Keys,
    recorded: Recorded,
    *,
    only: Collection[str] | None = None,
    rebuild: Collection[str] = (),
) -> dict[str, Assessment]:
    """Assess every node, or the nodes `only` names and all that they read, producers first."""
    wanted = set(workspace.graph.nodes) if only is None else upstream(workspace, only)
    found: dict[str, Assessment] = {}

    def outputs_of(selection: Selection) -> Mapping[str, Digest]:
        source = workspace.graph.sources.get(selection.producer)
        if source is not None:
            return source_outputs(workspace, source, selection)
        outputs = found[selection.producer].outputs
        assert outputs is not None  # noqa: S101  (waiting nodes are never keyed)
        return outputs

    for name, node in workspace.graph.nodes.items():
        if name not in wanted:
            continue
        waiting = [p for p in producers(node) if p in found and found[p].outputs is None]
        if waiting:
            broken = [p for p in waiting if found[p].state is State.BROKEN]
            found[name] = Assessment(
                node, State.WAITING, f"unknown until {(broken or waiting)[0]} is built"
            )
            continue
        found[name] = assess_one(
            workspace, keys, node, outputs_of, recorded(name), rebuild=name in rebuild
        )
    return found


def assess_one(
    workspace: Workspace,
    keys: Keys,
    node: Node,
    outputs_of: OutputsOf,
    recorded: Record | None,
    *,
    rebuild: bool = False,
) -> Assessment:
    """Assess a node whose producers' outputs are all known."""
    try:
        keyed = keys.keyed(node, outputs_of)
    except BuildError as error:
        return Assessment(node, State.BROKEN, str(error))
    if rebuild:
        return Assessment(node, State.STALE, "asked to run again", keyed)
    receipt = read_receipt(workspace, node.name)
    same = recorded is not None and recorded.key == keyed.key.hash
    if same and receipt is not None and recorded == Record(keyed.key.hash, receipt_hash(receipt)):
        wrong = damaged(workspace, node, receipt)
        if not wrong:
            return Assessment(node, State.CURRENT, "", keyed, receipt)
        reason = f"output {wrong[0]} is missing or changed"
    elif recorded is None:
        reason = "never built here"
    elif same:
        reason = "its receipt is missing or changed"
    else:
        reason = "its key changed"
    result = workspace.store.get_result(keyed.key)
    if result is None:
        return Assessment(node, State.STALE, reason, keyed)
    return Assessment(node, State.CACHED, reason, keyed, made(result))


def upstream(workspace: Workspace, names: Iterable[str]) -> set[str]:
    """Return `names` and every node that they read, directly or not."""
    nodes = workspace.graph.nodes
    pending, seen = list(names), set[str]()
    while pending:
        name = pending.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        pending.extend(producers(nodes[name]))
    return seen
