"""How long a run will take: from how long its nodes took before, and what of them may run at once."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.assess import Assessment, State
from tasks.node import Graph, producers


@dataclass(frozen=True)
class Span:
    """Seconds of some nodes: one after another, as a run does them, and along the longest chain."""

    work: float
    elapsed: float
    chain: float


@dataclass(frozen=True)
class Estimate:
    """What building will take: at least what is stale now, at most all that waits for it, too.

    `jobs` nodes run at a time. The nodes in `unknown` were never timed: they count as nothing.
    Fetching is not part of it.
    """

    jobs: int
    least: Span
    most: Span
    unknown: tuple[str, ...]


def estimate(
    graph: Graph, decided: Mapping[str, Assessment], seconds: Mapping[str, float], jobs: int
) -> Estimate:
    """Estimate a run of what was decided, given the seconds that nodes took before."""
    stale = [name for name, one in decided.items() if one.state is State.STALE]
    waiting = [name for name, one in decided.items() if one.state is State.WAITING]
    built = {*stale, *waiting}
    most = [name for name in decided if name in built]  # producers first
    return Estimate(
        jobs,
        _span(graph, stale, seconds, jobs),
        _span(graph, most, seconds, jobs),
        tuple(name for name in most if name not in seconds),
    )


def _span(graph: Graph, names: list[str], seconds: Mapping[str, float], jobs: int) -> Span:
    took = {name: seconds.get(name, 0.0) for name in names}
    needs = {name: [p for p in producers(graph.nodes[name]) if p in took] for name in names}
    chain: dict[str, float] = {}
    for name in names:
        chain[name] = took[name] + max((chain[p] for p in needs[name]), default=0.0)
    return Span(
        math.fsum(took.values()), _elapsed(took, needs, jobs), max(chain.values(), default=0.0)
    )


def _elapsed(took: Mapping[str, float], needs: Mapping[str, list[str]], jobs: int) -> float:
    """Return when the last node ends, if a free worker takes the first node that can begin."""
    open_needs = {name: len(given) for name, given in needs.items()}
    order = {name: place for place, name in enumerate(took)}
    readers: dict[str, list[str]] = {name: [] for name in took}
    for name, given in needs.items():
        for producer in given:
            readers[producer].append(name)
    ready = [order[name] for name, count in open_needs.items() if count == 0]
    names = list(took)
    running: list[tuple[float, int]] = []  # when it ends, place in the order
    now = 0.0
    while ready or running:
        while ready and len(running) < jobs:
            place = heapq.heappop(ready)
            heapq.heappush(running, (now + took[names[place]], place))
        now, place = heapq.heappop(running)
        for name in readers[names[place]]:
            open_needs[name] -= 1
            if open_needs[name] == 0:
                heapq.heappush(ready, order[name])
    return now
