"""A build graph as text: a tree for people, and DOT for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tasks.drawing.parts import Part, parts
from tasks.drawing.svg import COLOURS
from tasks.explain import Reason, draw
from tasks.node import Graph


def tree(graph: Graph, states: Mapping[str, str], *, every: bool = False) -> str:
    """Draw the nodes that `states` names as trees: what nobody reads, and below it what it reads.

    What has been drawn with all that it reads is referred to.
    """
    drawn = parts(graph, states, every=every)
    read = {name for part in drawn.values() for name in part.reads}
    seen: set[str] = set()
    return "\n".join(draw(_branch(drawn, name, seen)) for name in drawn if name not in read)


def _branch(drawn: Mapping[str, Part], name: str, seen: set[str]) -> Reason:
    part = drawn[name]
    head = _label(part)
    if name in seen and part.reads:
        return Reason(f"{head}, see above")
    seen.add(name)
    return Reason(head, tuple(_branch(drawn, given, seen) for given in part.reads))


def _label(part: Part) -> str:
    count = f" × {len(part.nodes)}" if len(part.nodes) > 1 else ""
    return f"{part.name}{count}  {part.state}"


def dot(graph: Graph, states: Mapping[str, str], *, every: bool = False) -> str:
    """Return the nodes that `states` names in Graphviz's language, drawn as `tree` draws them."""
    drawn = parts(graph, states, every=every)
    lines = ["digraph build {", "  rankdir=LR; node [shape=box, style=filled, fontname=sans];"]
    for part in drawn.values():
        fill, border, _, _ = COLOURS[part.worst]
        label = json.dumps(_label(part).replace("  ", "\n"), ensure_ascii=False)
        lines.append(
            f'  {json.dumps(part.name)} [label={label}, fillcolor="{fill}", color="{border}"];'
        )
    for part in drawn.values():
        lines += [f"  {json.dumps(given)} -> {json.dumps(part.name)};" for given in part.reads]
    return "\n".join([*lines, "}"])
