"""What is drawn of a graph: its nodes, or parts of it where those are too many to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from tasks.assess import State
from tasks.node import Graph, producers

MANY = 48  # parts that one picture can show
_WORDS = tuple(state.value for state in State)
_ATTENTION = ("broken", "stale", "waiting", "remote", "cached", "current")


@dataclass(frozen=True)
class Part:
    """Nodes that are drawn as one: those of a kind whose names begin alike, often a single one.

    reads: names of the parts that it reads, without those that one of them reads, too.
    """

    name: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    states: Mapping[str, int]  # how many nodes are in which state, by its word

    @property
    def kind(self) -> str:
        """The part of the name before the first colon."""
        return self.name.partition(":")[0]

    @property
    def rest(self) -> str:
        """The name without the kind, as people read it."""
        return self.name.partition(":")[2].replace(":", " ")

    @property
    def state(self) -> str:
        """The state of all nodes, or how many are in which."""
        if len(self.nodes) == 1:
            return next(iter(self.states))
        return ", ".join(f"{count} {state}" for state, count in self.states.items())

    @property
    def worst(self) -> str:
        """The state that deserves most attention."""
        return next(word for word in _ATTENTION if word in self.states)


def parts(graph: Graph, states: Mapping[str, str], *, every: bool = False) -> dict[str, Part]:
    """Return the parts to draw of the nodes in `states`, producers first.

    `states` has the word for the state of each node (a value of `State`). If they are more than
    MANY, and not `every` one is asked for, nodes of a kind are put together: those whose names
    differ in the last words only, as few of them as it takes, where no cycle comes of it.
    """
    names = [name for name in graph.nodes if name in states]
    longest = max((name.count(":") for name in names), default=0)
    for words in range(longest + 1, 0, -1) if len(names) > MANY and not every else ():
        found = _parts(graph, states, {name: _prefix(name, words) for name in names})
        if found is not None and len(found) <= MANY:
            return found
    return _parts(graph, states, {name: name for name in names}) or {}


def _prefix(name: str, words: int) -> str:
    return ":".join(name.split(":")[:words])


def _parts(
    graph: Graph, states: Mapping[str, str], part_of: Mapping[str, str]
) -> dict[str, Part] | None:
    """Put nodes together, None if parts would read each other in a cycle."""
    members: dict[str, list[str]] = {}
    reads: dict[str, dict[str, None]] = {}
    for name, part in part_of.items():
        members.setdefault(part, []).append(name)
        given = [part_of[p] for p in producers(graph.nodes[name]) if p in part_of]
        reads.setdefault(part, {}).update(dict.fromkeys(p for p in given if p != part))
    try:
        order = list(TopologicalSorter(reads).static_order())
    except CycleError:
        return None
    above: dict[str, set[str]] = {}  # all that a part reads, directly or not
    found = {}
    for part in order:
        above[part] = set(reads[part]).union(*(above[p] for p in reads[part]))
        direct = tuple(p for p in reads[part] if not any(p in above[q] for q in reads[part]))
        counts = Counter(states[name] for name in members[part])
        counted = {word: counts[word] for word in _WORDS if counts[word]}
        found[part] = Part(part, tuple(members[part]), direct, counted)
    return found
