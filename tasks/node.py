"""What a node of the build graph is: a pure function of the files it selects and its parameters.

A node says nothing of *order* (doit decides that) and nothing of *whether* (its key decides that).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from tasks.errors import BuildError

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Serialise to the one JSON text that stands for `value`: sorted keys, no spaces, ASCII."""
    return _CANONICAL.encode(value)


@dataclass(frozen=True)
class Choice:
    """Files of one of several kinds: `patterns` name them, where a file matches `marks`."""

    marks: tuple[str, ...]
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Files outside the graph that nodes read: a model's local checkpoint directory.

    `patterns` are shell patterns of file names directly inside `root`; what they do not name
    is not part of the source. Of `choices`, the first whose marks are there adds its patterns.
    `required` patterns must match at least one file each.
    """

    name: str
    root: Path
    patterns: tuple[str, ...]
    required: tuple[tuple[str, ...], ...] = ()
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Outputs of one producer that a node reads.

    `producer` names a node or a source; `patterns` are shell patterns over its output paths;
    `into` is the directory below `inputs/` where the files appear ("" for `inputs/` itself).
    """

    producer: str
    patterns: tuple[str, ...]
    into: str = ""

    def place(self, path: str) -> str | None:
        """Place below `inputs/` of the producer's output `path`, None if it is not selected."""
        if _matcher(self.patterns)(path) is None:
            return None
        return f"{self.into}/{path}" if self.into else path


@cache
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Return what matches paths against shell patterns, case and all, as `fnmatchcase` does."""
    return re.compile("|".join(map(translate, patterns)) or "(?!)").match


@dataclass(frozen=True, slots=True)
class Node:
    """One step: `action` (a module with `run(params, inputs, outputs)`) applied to its inputs.

    `params` is canonical JSON. `destination` is the directory, relative to the project, where
    the outputs are materialised. `name` is the doit task's name. With `batch`, which is
    the same for all nodes of an action, one run of it (its `run_batch`) can make several that read
    the same and differ in parameters. `programs` holds programs it runs that are no Python
    packages, with their versions; `missing` says which of them this machine lacks, and the way out.
    `remote` tells whether a cluster may run it, and `platform` the properties that a worker has to
    have for that.
    """

    name: str
    action: str
    params: str
    inputs: tuple[Selection, ...]
    destination: str
    batch: bool = False
    programs: tuple[tuple[str, str], ...] = ()
    missing: str | None = None
    remote: bool = False
    platform: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        """The part of the name before the first colon: download, convert and so on."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Graph:
    """Nodes in dependency order (producers first), and the sources they read."""

    nodes: Mapping[str, Node]
    sources: Mapping[str, Source]


def graph(nodes: Iterable[Node], sources: Iterable[Source] = ()) -> Graph:
    """Check and order nodes.

    Raises BuildError for a name used twice, an unknown producer, or a cycle.
    """
    by_source = {source.name: source for source in sources}
    by_name: dict[str, Node] = {}
    for node in nodes:
        if node.name in by_name or node.name in by_source:
            raise BuildError(f"two nodes are named {node.name}")
        by_name[node.name] = node
    order: TopologicalSorter[str] = TopologicalSorter()
    for node in by_name.values():
        for producer in producers(node):
            if producer not in by_name and producer not in by_source:
                raise BuildError(f"{node.name} reads {producer}, which does not exist")
        order.add(node.name, *(name for name in producers(node) if name in by_name))
    try:
        names = list(order.static_order())
    except CycleError as error:
        raise BuildError("the nodes form a cycle: " + " → ".join(error.args[1])) from None
    return Graph({name: by_name[name] for name in names}, by_source)


def producers(node: Node) -> tuple[str, ...]:
    """Names of the nodes and sources that `node` reads, in order, without repetition."""
    return tuple(dict.fromkeys([selection.producer for selection in node.inputs]))
