"""Elements of HTML and SVG: what is put into them is text, and escaped when they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote
from xml.etree import ElementTree as ET

Child = ET.Element | str | None


def element(
    tag: str,
    attributes: Mapping[str, str | int | float | None] | None = None,
    *children: Child,
) -> ET.Element:
    """Return an element; attributes and children that are None are left out."""
    given = {name: str(value) for name, value in (attributes or {}).items() if value is not None}
    made = ET.Element(tag, given)
    append(made, children)
    return made


def append(parent: ET.Element, children: Iterable[Child]) -> None:
    """Add elements and text to an element, in order."""
    for child in children:
        if isinstance(child, ET.Element):
            parent.append(child)
        elif child and len(parent):
            parent[-1].tail = (parent[-1].tail or "") + child
        elif child:
            parent.text = (parent.text or "") + child


def address(path: str) -> str:
    """Return a path as the address of a link, relative whatever is in it."""
    return quote(path)


def html_text(root: ET.Element) -> str:
    """Return an element and all in it as HTML."""
    return ET.tostring(root, encoding="unicode", method="html")
