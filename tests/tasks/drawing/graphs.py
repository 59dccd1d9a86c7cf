"""Graphs for pictures: nodes that do nothing."""

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from tasks.node import Graph, Node, Selection, graph


def drawn(reads: Mapping[str, Iterable[str]]) -> Graph:
    """A graph of what each node reads."""
    return graph(
        Node(name, "", "", tuple(Selection(given, ("*",)) for given in given_names), "")
        for name, given_names in reads.items()
    )


def release(models: int = 2, targets: int = 30) -> Graph:
    """A release: each model is downloaded, lowered, and compiled for each target."""
    reads: dict[str, list[str]] = {}
    for model in range(models):
        reads[f"download:m{model}"] = []
        reads[f"lower:m{model}:q"] = [f"download:m{model}"]
        for target in range(targets):
            reads[f"compile:m{model}:q:t{target}"] = [f"lower:m{model}:q"]
    return drawn(reads)


def parsed(picture: str) -> ET.Element:
    """The elements of an SVG picture of our own."""
    return ET.fromstring(picture)  # noqa: S314  (our own)
