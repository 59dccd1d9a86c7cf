"""A build graph as an SVG picture: layers from left to right, states by word and colour.

Deterministic: the same graph and states give the same bytes. Readable on light and dark pages: all
text is in boxes, which follow what the reader prefers.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import pairwise

from tasks.drawing.layout import Layout, layout
from tasks.drawing.parts import Part, parts
from tasks.node import Graph

BOX, LINE, GAP = 54.0, 4.0, 12.0  # heights of boxes and lines, and what is between them
COLUMN_GAP = 56.0
MARGIN, PADDING = 16.0, 12.0
BOLD, PLAIN = 8.0, 7.0  # widths of a character: generous, since fonts differ

# Fill and border for light pages, and for dark ones.
COLOURS: Mapping[str, tuple[str, str, str, str]] = {
    "current": ("#dff3e4", "#2e7d46", "#14331f", "#5fbf80"),
    "cached": ("#dcebf8", "#2c6ea6", "#12293d", "#6aaee3"),
    "remote": ("#e6e3f8", "#5b4bb0", "#221c44", "#a396ee"),
    "stale": ("#fdeccc", "#a86a00", "#3d2a06", "#e7ad46"),
    "waiting": ("#eeeeee", "#6b6b6b", "#2a2a2a", "#a0a0a0"),
    "broken": ("#fbdcdc", "#b3261e", "#431414", "#f28b82"),
}


def svg(graph: Graph, states: Mapping[str, str], *, every: bool = False) -> str:
    """Draw the nodes that `states` names, with the word for the state of each (a value of `State`).

    Lines that follow from others are left out. Of a large graph nodes of a kind are drawn as one,
    unless `every` node is asked for. Returns one <svg> element, to be a file or part of a page.
    """
    drawn = parts(graph, states, every=every)
    placed = layout({name: part.reads for name, part in drawn.items()}, BOX, LINE, GAP)
    columns = _columns(drawn, placed)
    width = max((x + w for x, w in columns), default=0.0) + MARGIN
    height = placed.height + 2 * MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="build-graph" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
    )
    return "\n".join(
        [
            head,
            f"<title>Build graph: {len(states)} nodes</title>",
            f"<style>{_style()}</style>",
            *_lines(drawn, placed, columns),
            *(_box(part, placed, columns) for part in drawn.values()),
            "</svg>\n",
        ]
    )


def _columns(drawn: Mapping[str, Part], placed: Layout) -> list[tuple[float, float]]:
    """Return left edge and width of each layer's boxes."""
    widths = [0.0] * (max(placed.layer.values(), default=-1) + 1)
    for name, part in drawn.items():
        texts = (len(_head(part)) * BOLD, len(part.rest) * PLAIN, len(part.state) * PLAIN)
        layer = placed.layer[name]
        widths[layer] = max(widths[layer], *texts)
    found, x = [], MARGIN
    for width in widths:
        found.append((x, width + 2 * PADDING))
        x += width + 2 * PADDING + COLUMN_GAP
    return found


def _head(part: Part) -> str:
    return part.kind + (f" × {len(part.nodes)}" if len(part.nodes) > 1 else "")


def _box(part: Part, placed: Layout, columns: list[tuple[float, float]]) -> str:
    x, width = columns[placed.layer[part.name]]
    y = placed.y[part.name] + MARGIN - BOX / 2
    texts = (("kind", _head(part)), ("", part.rest), ("", part.state))
    written = "".join(
        f'<text{f" class={kind!r}" if kind else ""} x="{x + PADDING:.1f}" y="{y + 17 + 15 * n:.1f}">'
        f"{escape(text)}</text>"
        for n, (kind, text) in enumerate(texts)
        if text
    )
    return (
        f'<g class="{part.worst}"><title>{escape(chr(10).join(part.nodes))}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BOX:.1f}" rx="6"/>{written}</g>'
    )


def _lines(
    drawn: Mapping[str, Part], placed: Layout, columns: list[tuple[float, float]]
) -> list[str]:
    found = []
    for name, part in drawn.items():
        for producer in part.reads:
            x, width = columns[placed.layer[producer]]
            points = [(x + width, placed.y[producer])]
            for number in range(placed.layer[producer] + 1, placed.layer[name]):
                (left, size), y = columns[number], placed.ways[producer, number]
                points += [(left, y), (left + size, y)]
            points.append((columns[placed.layer[name]][0], placed.y[name]))
            found.append(f'<path d="{_path([(x, y + MARGIN) for x, y in points])}"/>')
    return found


def _path(points: list[tuple[float, float]]) -> str:
    """Return a smooth path: curves between layers, straight lines through them."""
    steps = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for number, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if number % 2:
            steps.append(f"H{x1:.1f}")
        else:
            middle = (x0 + x1) / 2
            steps.append(f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}")
    return "".join(steps)


def _style() -> str:
    light = "".join(
        f".build-graph .{state} rect{{fill:{fill};stroke:{border}}}"
        for state, (fill, border, _, _) in COLOURS.items()
    )
    dark = "".join(
        f".build-graph .{state} rect{{fill:{fill};stroke:{border}}}"
        for state, (_, _, fill, border) in COLOURS.items()
    )
    return (
        ".build-graph{font:12px system-ui,sans-serif;color:#1a1a1a}"
        ".build-graph text{fill:currentColor}.build-graph .kind{font-weight:600}"
        ".build-graph path{fill:none;stroke:#8a8a8a;stroke-width:1.2}"
        ".build-graph .waiting rect{stroke-dasharray:5 3}"
        f"{light}@media (prefers-color-scheme:dark){{.build-graph{{color:#eaeaea}}{dark}}}"
    )
