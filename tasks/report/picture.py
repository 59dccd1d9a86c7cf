"""The graph behind a release as a picture in the colours of the page (`tasks.drawing`)."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from tasks.drawing.svg import svg
from tasks.node import Node, Selection, graph
from tasks.report.releases import Step

_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'  # which SVG in HTML does without


def picture(steps: Sequence[Step]) -> ET.Element:
    """Return the picture as an element, without a style of its own: page.css has it."""
    known = {step.name for step in steps}
    nodes = [
        Node(
            step.name,
            action="",
            params="{}",
            inputs=tuple(Selection(read, ("*",)) for read in step.reads if read in known),
            destination="",
        )
        for step in steps
    ]
    drawn = svg(graph(nodes), {step.name: step.state for step in steps})
    made = ET.fromstring(drawn.replace(_NAMESPACE, "", 1))  # noqa: S314  (we have just written it)
    for own in made.findall("style"):
        made.remove(own)
    return made
