"""Decide, without running anything, what each node of the graph needs and why.

Keys chain through results: a node whose producers' outputs are known has a key, and a known key
has a result or needs a build. Downstream of a build nothing is known, and nothing is guessed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, islice

from cache.digest import Digest
from tasks.errors import BuildError
from tasks.keys import Keyed, Keys, OutputsOf, lookup
from tasks.node import Node, Selection, producers
from tasks.workspace import Workspace, damaged, read_receipt, receipt_hash, source_outputs


class State(Enum):
    """What a node needs."""

    CURRENT = "current"  # its receipt and files are right
    CACHED = "cached"  # the store has its result; files have to be put in place
    REMOTE = "remote"  # the remote store has its result; files have to be fetched if wanted
    STALE = "stale"  # its action has to run
    WAITING = "waiting"  # unknown until a producer is built
    BROKEN = "broken"  # it cannot be keyed: a source is missing


NOT_CACHED = (State.STALE, State.WAITING, State.BROKEN)  # has to be built, as far as is known


NEVER_BUILT = "never built here"
KEY_CHANGED = "its key changed"

_AT_ONCE = 4096  # nodes that are looked up together: a few megabytes of results


@dataclass(frozen=True, slots=True)
class Assessment:
    """State of one node, the reason where it is not current, and its key and outputs if known.

    `ran` are the seconds that its action took, where a result that was looked up says so.
    """

    node: Node
    state: State
    reason: str = ""
    keyed: Keyed | None = None
    outputs: Mapping[str, Digest] | None = None
    ran: float | None = None


@dataclass(frozen=True)
class Record:
    """The last success of a node: hash of its key, sha256 of its receipt.

    `here` tells whether its files were put in place, or were left in the remote store, `vouchers`
    which trusted public keys vouched for it, None if it was made here.
    """

    key: str
    receipt: str
    here: bool = True
    vouchers: Collection[str] | None = None


Recorded = Callable[[str], Record | None]  # by node name


def assess(
    workspace: Workspace,
    keys: Keys,
    recorded: Recorded,
    *,
    only: Collection[str] | None = None,
    rebuild: Mapping[str, str] | None = None,
    wanted: Collection[str] = (),
) -> dict[str, Assessment]:
    """Assess every node, or the nodes `only` names and all that they read, producers first.

    `rebuild` are nodes that are to run again whatever is known, with the reason. Those in `wanted`
    need their files; any other node whose result is known elsewhere needs none.
    """
    nodes = workspace.graph.nodes
    names = set(nodes) if only is None else upstream(workspace, only)
    again = rebuild or {}
    found: dict[str, Assessment] = {}

    def outputs_of(selection: Selection) -> Mapping[str, Digest]:
        source = workspace.graph.sources.get(selection.producer)
        if source is not None:
            return source_outputs(workspace, source, selection)
        outputs = found[selection.producer].outputs
        assert outputs is not None  # noqa: S101  (waiting nodes are never keyed)
        return outputs

    def check(name: str) -> _Checked:
        node = nodes[name]
        waiting = [p for p in producers(node) if p in found and found[p].outputs is None]
        if waiting:
            broken = [p for p in waiting if found[p].state is State.BROKEN]
            reason = f"unknown until {(broken or waiting)[0]} is built"
            return _Checked(Assessment(node, State.WAITING, reason))
        return _check(
            workspace, keys, node, outputs_of, recorded(name), again.get(name), name in wanted
        )

    # Nodes that do not depend on each other are looked up together: one round trip, not many.
    level: dict[str, int] = {}
    for name in filter(names.__contains__, nodes):  # producers first
        level[name] = 1 + max((level.get(p, 0) for p in producers(nodes[name])), default=0)
    for _, ready in groupby(sorted(level, key=level.__getitem__), level.__getitem__):
        while some := [check(name) for name in islice(ready, _AT_ONCE)]:
            found |= _looked_up(workspace, some)
    return {name: found[name] for name in level}


def assess_one(
    workspace: Workspace,
    keys: Keys,
    node: Node,
    outputs_of: OutputsOf,
    recorded: Record | None,
    *,
    rebuild: str | None = None,
    wanted: bool = True,
) -> Assessment:
    """Assess a node whose producers' outputs are all known."""
    checked = _check(workspace, keys, node, outputs_of, recorded, rebuild, wanted)
    return _looked_up(workspace, [checked])[node.name]


@dataclass(frozen=True, slots=True)
class _Checked:
    """What is known of a node before its result is looked up, and whether that has to be done."""

    assessed: Assessment
    lookup: bool = False


def _check(
    workspace: Workspace,
    keys: Keys,
    node: Node,
    outputs_of: OutputsOf,
    recorded: Record | None,
    rebuild: str | None,
    wanted: bool,
) -> _Checked:
    """Assess a node by what is in the project."""
    try:
        keyed = keys.keyed(node, outputs_of)
    except BuildError as error:
        return _Checked(Assessment(node, State.BROKEN, str(error)))
    if rebuild is not None:
        return _Checked(Assessment(node, State.STALE, rebuild, keyed))
    last = recorded if recorded and recorded.key == keyed.key.hash else None
    believed = last is not None and workspace.shared.trust.still_believes(last.vouchers)
    receipt = read_receipt(workspace, node.name) if believed else None
    if last and receipt is not None and last.receipt == receipt_hash(receipt):
        elsewhere = not last.here and not wanted
        wrong = [] if elsewhere else damaged(workspace, node, receipt)
        if not wrong:
            return _Checked(Assessment(node, State.CURRENT, "", keyed, receipt))
        there = os.path.lexists(workspace.root / node.destination / wrong[0])
        others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        reason = f"output {wrong[0]} {'has changed' if there else 'is missing'}{others}"
    elif recorded is None:
        reason = NEVER_BUILT
    elif last is None:
        reason = KEY_CHANGED
    elif not believed:
        reason = "no trusted key vouches for it"
    else:
        reason = "its receipt is missing or changed"
    return _Checked(Assessment(node, State.STALE, reason, keyed), lookup=True)


def _looked_up(workspace: Workspace, checked: Iterable[_Checked]) -> dict[str, Assessment]:
    """Assess nodes by whether the store has their results."""
    checked = list(checked)
    keys = [one.assessed.keyed.key for one in checked if one.lookup and one.assessed.keyed]
    results = lookup(workspace, keys) if keys else {}
    found = {}
    for one in checked:
        assessed = one.assessed
        keyed = assessed.keyed if one.lookup else None
        if keyed and (known := results.get(keyed.key)):
            state = State.CACHED if known.local else State.REMOTE
            ran = known.result.seconds
            assessed = Assessment(assessed.node, state, assessed.reason, keyed, known.outputs, ran)
        found[assessed.node.name] = assessed
    return found


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
