"""One process's view of a build: the workspace, its keys, and what was decided about each node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.assess import Assessment, Record, State, assess, assess_one
from tasks.keys import Keys
from tasks.matrix import Matrix
from tasks.node import Node, producers
from tasks.realise import outputs_of
from tasks.workspace import Workspace

Values = Mapping[str, Any]  # what doit keeps of a successful task


@dataclass
class Session:
    """State of one run. `matrix` is None for graphs that no matrix describes."""

    workspace: Workspace
    keys: Keys
    matrix: Matrix | None = None
    decided: dict[str, Assessment] = field(default_factory=dict)
    rebuild: set[str] = field(default_factory=set)
    running: bool = False

    def decide(
        self, values_of: Callable[[str], Values], only: Iterable[str] | None = None
    ) -> dict[str, Assessment]:
        """Assess the named nodes (all of them by default) and what they read; remember it."""
        self.decided = assess(
            self.workspace,
            self.keys,
            lambda name: record(values_of(name)),
            only=None if only is None else set(only),
            rebuild=self.rebuild,
        )
        return self.decided

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
                rebuild=node.name in self.rebuild,
            )
        return known.state is State.CURRENT

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
    return Record(values["key"], values["receipt"])
