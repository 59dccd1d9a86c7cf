"""One process's view of a build: the workspace, its keys, and what was decided about each node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cache.digest import Digest
from tasks.assess import Assessment, Record, State, assess, assess_one
from tasks.board import Board
from tasks.configuration.matrix import Matrix
from tasks.errors import BuildError
from tasks.keys import Keyed, Keys
from tasks.node import Node, producers
from tasks.plan import DIST
from tasks.realise import outputs_of
from tasks.workspace import Workspace

Values = Mapping[str, Any]  # what doit keeps of a successful task


@dataclass
class Session:
    """State of one run. `matrix` is None for graphs that no matrix describes.

    `selected` are the nodes that the run is to make current, `batch_records` the last successes of
    those that can be made in batches. Both, and `board`, are set before any worker is forked.
    `wanted` are the nodes whose files are to be in place. With `cached_only` nothing may be built.
    `threads` tells whether nodes run in threads of one process.
    `rebuild` are the nodes that run again whatever is known, with the reason. `environment` has the
    variables that the session was opened with, secrets among them.
    """

    workspace: Workspace
    keys: Keys
    matrix: Matrix | None = None
    decided: dict[str, Assessment] = field(default_factory=dict)
    rebuild: dict[str, str] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    running: bool = False
    cached_only: bool = False
    threads: bool = False
    selected: tuple[str, ...] = ()
    batch_records: Mapping[str, Record | None] = field(default_factory=dict)
    board: Board = field(default_factory=lambda: Board(()))
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def begin(
        self,
        values_of: Callable[[str], Values],
        selected: Iterable[str],
        asked: Iterable[str] = (),
        *,
        dist: bool = True,
    ) -> None:
        """Begin a run that makes the nodes `selected` current.

        Of what the remote store has, it fetches the files of the nodes `asked` for by name, those
        that go to dist/ unless not `dist`, and whatever an action reads.
        """
        nodes = self.workspace.graph.nodes
        self.selected = tuple(selected)
        self.decide(values_of, self.selected, asked, dist=dist)
        self.batch_records = {
            name: record(values_of(name)) for name in self.selected if nodes[name].batch
        }
        self.board = Board(nodes)
        self.running = True

    def decide(
        self,
        values_of: Callable[[str], Values],
        only: Iterable[str] | None = None,
        asked: Iterable[str] = (),
        *,
        dist: bool = True,
    ) -> dict[str, Assessment]:
        """Assess the named nodes (all of them by default) and what they read; remember it."""
        nodes = self.workspace.graph.nodes
        self.wanted = set(asked)
        if dist:
            self.wanted |= {name for name, node in nodes.items() if node.destination == DIST}
        self.decided = assess(
            self.workspace,
            self.keys,
            lambda name: record(values_of(name)),
            only=None if only is None else set(only),
            rebuild=self.rebuild,
            wanted=self.wanted,
        )
        return self.decided

    def to_fetch(self) -> int:
        """Return the bytes that a run is known to fetch from the remote store.

        What nodes read whose producers have to be built first is not known, and not counted.
        """
        needed: set[Digest] = set()
        for name, assessed in self.decided.items():
            if assessed.state is State.REMOTE and name in self.wanted and assessed.outputs:
                needed.update(assessed.outputs.values())
            elif assessed.state is State.STALE and assessed.keyed:
                inputs = assessed.keyed.inputs.values()
                needed.update(given.digest for given in inputs if given.producer in self.decided)
        return sum(digest.size for digest in self.workspace.store.missing(needed))

    def is_current(self, node: Node, values: Values) -> bool:
        """Whether `node` needs nothing.

        In a run its producers are finished by now: it is decided again if one had to be touched.
        """
        known = self.decided.get(node.name)
        if known is None or (self.running and self._outdated(known)):
            known = self.decided[node.name] = assess_one(
                self.workspace,
                self.keys,
                node,
                lambda selection: outputs_of(self.workspace, selection),
                record(values),
                rebuild=self.rebuild.get(node.name),
                wanted=node.name in self.wanted,
            )
        return known.state is State.CURRENT

    def companions(self, keyed: Keyed) -> list[Keyed]:
        """Return stale nodes of this run that one run of the action can make beside a node.

        It is asked before any action runs. Raises BuildError if none may.
        """
        if self.cached_only:
            raise BuildError(
                f"{keyed.node.name} would have to be built: the cache lost its result meanwhile",
                "build it where the cache is written to, or leave out --require-cached",
            )
        node, found = keyed.node, {keyed.key: keyed}
        for name in self.batch_records:
            other = self.workspace.graph.nodes[name]
            if (
                not node.batch
                or name == node.name
                or (other.action, other.inputs) != (node.action, node.inputs)
                or not self.board.is_open(name)
            ):
                continue
            assessed = assess_one(
                self.workspace,
                self.keys,
                other,
                lambda selection: outputs_of(self.workspace, selection),
                self.batch_records[name],
                rebuild=self.rebuild.get(name),
                wanted=name in self.wanted,
            )
            if assessed.state is State.STALE and assessed.keyed is not None:
                found.setdefault(assessed.keyed.key, assessed.keyed)
        return list(found.values())[1:]

    def _outdated(self, known: Assessment) -> bool:
        """Whether an assessment made before the run has to be made again."""
        return known.state is State.WAITING or any(
            name in self.decided and self.decided[name].state is not State.CURRENT
            for name in producers(known.node)
        )


def record(values: Values) -> Record | None:
    """What doit's values of a node say of its last success."""
    if "key" not in values or "receipt" not in values:
        return None
    return Record(
        values["key"],
        values["receipt"],
        values.get("here", True),
        values.get("vouchers", ()),
    )
