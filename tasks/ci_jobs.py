"""Stale nodes as jobs for machines that share nothing but a cache.

Jobs run in two waves. Within a wave none waits for another, so what two of them need is either
made before, in the first wave, or by both. Both make it only where that takes less time than a job
needs to begin (START): every other node is in exactly one job.

1. A *bundle* is what has to stay together: the ends of the graph (stale nodes that no stale node
   reads), joined where they share a producer, with the producers that only they read.
2. From the producer that most ends share downwards, a joint is cut instead where its bundle would
   exceed a fair share of the work by more than another wave costs (START): that producer goes to
   the first wave, with what it needs. Smaller bundles are tried too, which can be dealt out more
   evenly but cut more: the division that is expected to end first is taken.
3. Bundles that need the same kind of machine are dealt out to jobs, longest first, each to the job
   that it leaves shortest. The longest job so is at most one bundle above the mean.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import BuildError
from tasks.node import Graph, Node, producers

START = 60.0  # seconds until a job's first action: a machine, a checkout, an installation
WAVES = ("shared", "rows")  # what several jobs read, and the rest

# Of kinds of which no time is known: a model of a billion parameters, two cores.
GUESSES: Mapping[str, float] = {
    "download": 5.0,
    "weights": 120.0,
    "kernels": 5.0,
    "wasm_runtime": 130.0,
    "convert": 60.0,
    "gen_config": 1.0,
    "lower": 10.0,
    "compile": 20.0,
    "verify": 60.0,
    "package": 1.0,
}
_GUESS = 10.0
_PARTS = (1, 2, 4)  # of a fair share, that are tried as the longest bundle


@dataclass(frozen=True, order=True)
class Machine:
    """What a job runs on: the label of a runner, and the extras of bootstrap.py that it needs."""

    label: str
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One job: `tasks` to ask doit for, the `nodes` it makes for them, and how long that takes."""

    name: str
    wave: str
    machine: Machine
    tasks: tuple[str, ...]
    nodes: frozenset[str]
    seconds: float


@dataclass(frozen=True)
class _Bundle:
    ends: tuple[str, ...]
    nodes: frozenset[str]
    machine: Machine


def estimates(graph: Graph, known: Mapping[str, float]) -> dict[str, float]:
    """Return seconds for every node: those known, else the mean of its kind, else a guess."""
    kinds: dict[str, list[float]] = {}
    for name, seconds in known.items():
        if name in graph.nodes:
            kinds.setdefault(graph.nodes[name].kind, []).append(seconds)
    means = {kind: sum(found) / len(found) for kind, found in kinds.items()}
    return {
        name: known.get(name, means.get(node.kind, GUESSES.get(node.kind, _GUESS)))
        for name, node in graph.nodes.items()
    }


def jobs(
    graph: Graph,
    stale: Collection[str],
    seconds: Mapping[str, float],
    machine_of: Callable[[Node], Machine],
    limit: int,
) -> list[Job]:
    """Divide stale nodes into at most `limit` jobs for each wave, first wave first.

    With a node, everything stale that reads it is in `stale`.

    Raises BuildError if there are more kinds of runners than jobs.
    """
    work = _Work(graph, stale, seconds, machine_of)
    share = max(START, work.seconds(work.order) / limit)
    tried = [work.divided(share / parts + START, limit) for parts in _PARTS]
    return min(tried, key=_end)


def _end(found: Sequence[Job]) -> float:
    """Return when the last job has ended; a wave begins when the one before has ended."""
    waves = ([job.seconds for job in found if job.wave == wave] for wave in WAVES)
    return math.fsum(START + max(seconds) for seconds in waves if seconds)


class _Work:
    """Stale nodes, producers first, with what each of them has to have made before it."""

    def __init__(
        self,
        graph: Graph,
        stale: Collection[str],
        seconds: Mapping[str, float],
        machine_of: Callable[[Node], Machine],
    ) -> None:
        chosen = set(stale)
        self.order = [name for name in graph.nodes if name in chosen]
        self._nodes = graph.nodes
        self._place = {name: place for place, name in enumerate(self.order)}
        self._seconds = seconds
        self._machine_of = machine_of
        self._reads = {
            name: [read for read in producers(graph.nodes[name]) if read in chosen]
            for name in self.order
        }
        self._closure: dict[str, frozenset[str]] = {}
        for name in self.order:
            above = (self._closure[read] for read in self._reads[name])
            self._closure[name] = frozenset({name}).union(*above)
        self._cheap = {name for name in self.order if self.seconds(self._closure[name]) <= START}

    def seconds(self, names: Iterable[str]) -> float:
        """Return how long nodes take, one after the other."""
        return math.fsum(self._seconds[name] for name in names)

    def divided(self, longest: float, limit: int) -> list[Job]:
        """Return the jobs of both waves, of bundles no longer than `longest` where it can be."""
        rows, cut = self.bundles(self.order, longest)
        before, _ = self.bundles(self.upstream(cut), math.inf)
        waves = zip(WAVES, (before, rows), strict=True)
        return [job for wave, bundles in waves for job in self.jobs(wave, bundles, limit)]

    def upstream(self, names: Iterable[str]) -> list[str]:
        """Return nodes and all that they need, producers first."""
        return self._ordered(frozenset().union(*(self._closure[name] for name in names)))

    def bundles(self, names: Sequence[str], longest: float) -> tuple[list[_Bundle], set[str]]:
        """Join what shares producers into bundles no longer than `longest`, where it can be.

        Also returns the producers whose joints were cut.
        """
        chosen = set(names)
        read = {read for name in names for read in self._reads[name]}
        ends = [name for name in names if name not in read]
        users: dict[str, list[str]] = {}
        joints = chosen - self._cheap
        for end in ends:
            for name in self._closure[end] & joints:
                users.setdefault(name, []).append(end)
        group = {end: [end] for end in ends}  # one list for all the ends of a bundle
        made = {end: set(self._closure[end]) for end in ends}  # by the first end of that list
        cut: set[str] = set()
        by_use = sorted(users, key=lambda name: (-len(users[name]), self._place[name]))
        for name in by_use:
            joined = sorted({group[end][0] for end in users[name]}, key=self._place.__getitem__)
            if len(joined) == 1:
                continue
            together = set().union(*(made[first] for first in joined))
            if self.seconds(self._ordered(together - cut)) > longest:
                cut.add(name)
                continue
            members = [end for first in joined for end in group[first]]
            group.update(dict.fromkeys(members, members))
            made[members[0]] = together
        before = frozenset(self.upstream(cut))
        firsts = dict.fromkeys(group[end][0] for end in ends)
        return [self._bundle(group[first], made[first] - before) for first in firsts], cut

    def jobs(self, wave: str, bundles: Sequence[_Bundle], limit: int) -> list[Job]:
        """Deal bundles out to at most `limit` jobs."""
        groups = self._groups(bundles, limit)
        dealt = [
            (machine, self._deal(groups[machine], count))
            for machine, count in self._counts(groups, limit).items()
        ]
        total = sum(len(hands) for _, hands in dealt)
        found: list[Job] = []
        for machine, hands in dealt:
            for hand in hands:
                nodes = frozenset().union(*(bundle.nodes for bundle in hand))
                words = (wave, f"{len(found) + 1}/{total}", *machine.extras)
                ends = self._ordered({end for bundle in hand for end in bundle.ends})
                seconds = self.seconds(self._ordered(nodes))
                found.append(Job(" ".join(words), wave, machine, tuple(ends), nodes, seconds))
        return found

    def _bundle(self, ends: Sequence[str], nodes: Collection[str]) -> _Bundle:
        machines = [self._machine_of(self._nodes[name]) for name in self._ordered(nodes)]
        labels = {machine.label for machine in machines}
        if len(labels) > 1:
            raise BuildError(f"{ends[0]} and what it reads need {' and '.join(sorted(labels))}")
        return _Bundle(tuple(ends), frozenset(nodes), _joint(machines))

    def _groups(self, bundles: Sequence[_Bundle], limit: int) -> dict[Machine, list[_Bundle]]:
        """Return bundles by machine; small groups go with others on the same runner."""
        groups: dict[Machine, list[_Bundle]] = {}
        for bundle in bundles:
            groups.setdefault(bundle.machine, []).append(bundle)
        labels = {machine.label for machine in groups}
        if len(labels) > limit:
            raise BuildError(f"{len(labels)} runners are needed: {', '.join(sorted(labels))}")
        for machine in sorted(groups, key=lambda machine: (len(machine.extras), machine)):
            wider = [
                other
                for other in groups
                if other.label == machine.label and set(other.extras) > set(machine.extras)
            ]
            if wider and self._total(groups[machine]) < START:
                groups[min(wider, key=lambda one: (len(one.extras), one))] += groups.pop(machine)
        while len(groups) > limit:
            by_work = sorted(groups, key=lambda machine: (self._total(groups[machine]), machine))
            one, other = next(
                (one, other)
                for one in by_work
                for other in by_work
                if one != other and one.label == other.label
            )
            together = groups.pop(one) + groups.pop(other)
            groups.setdefault(_joint([one, other]), []).extend(together)
        return dict(sorted(groups.items()))

    def _counts(self, groups: Mapping[Machine, list[_Bundle]], limit: int) -> dict[Machine, int]:
        """Return how many jobs each group has: as many as pay, at most `limit` in all."""
        work = {machine: self._total(bundles) for machine, bundles in groups.items()}
        share = max(START, sum(work.values()) / limit)
        counts = {
            machine: max(1, min(len(groups[machine]), math.ceil(work[machine] / share)))
            for machine in groups
        }
        while sum(counts.values()) > limit:
            several = [machine for machine in counts if counts[machine] > 1]
            least = min(several, key=lambda one: (work[one] / (counts[one] - 1), one))
            counts[least] -= 1
        return counts

    def _deal(self, bundles: Sequence[_Bundle], count: int) -> list[list[_Bundle]]:
        """Deal bundles out, longest first, each to the job that it leaves shortest."""
        uses = Counter(name for bundle in bundles for name in bundle.nodes)
        hands: list[list[_Bundle]] = [[] for _ in range(count)]
        held: list[set[str]] = [set() for _ in hands]
        order = [(0.0, number) for number in range(count)]  # shortest first
        took = {bundle.ends: self.seconds(bundle.nodes) for bundle in bundles}
        rest = sorted(bundles, key=lambda one: (-took[one.ends], self._place[one.ends[0]]))
        for bundle in rest:
            shared = [name for name in self._ordered(bundle.nodes) if uses[name] > 1]
            own = took[bundle.ends] - self.seconds(shared)
            best: tuple[float, float, int] | None = None
            for before, number in order:
                if best is not None and before + own >= best[0]:
                    break
                lacking = self.seconds(name for name in shared if name not in held[number])
                if best is None or before + own + lacking < best[0]:
                    best = (before + own + lacking, before, number)
            assert best is not None  # noqa: S101  (there are jobs)
            after, before, number = best
            order.remove((before, number))
            insort(order, (after, number))
            hands[number].append(bundle)
            held[number].update(bundle.nodes)
        return [hand for hand in hands if hand]

    def _total(self, bundles: Iterable[_Bundle]) -> float:
        return math.fsum(self.seconds(bundle.nodes) for bundle in bundles)

    def _ordered(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=self._place.__getitem__)


def _joint(machines: Iterable[Machine]) -> Machine:
    """Return what is enough for all of several machines with one label."""
    found = list(machines)
    extras = {extra for machine in found for extra in machine.extras}
    return Machine(found[0].label, tuple(sorted(extras)))
