"""How to write to a stream: with colours or without, with lines that change in place or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Style:
    """How to write to a stream: with colours, with a live display, or plainly."""

    colour: bool
    live: bool

    def good(self, text: str) -> str:
        """Mark what went well."""
        return self._paint("32", text)

    def warn(self, text: str) -> str:
        """Mark what deserves a look."""
        return self._paint("33", text)

    def bad(self, text: str) -> str:
        """Mark what failed."""
        return self._paint("1;31", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text


def style_of(stream: TextIO, environment: Mapping[str, str]) -> Style:
    """Style for a stream: NO_COLOR, FORCE_COLOR and TERM=dumb are respected.

    Source: no-color.org, force-color.org.
    """
    live = stream.isatty() and environment.get("TERM", "") not in ("", "dumb")
    colour = live
    if environment.get("NO_COLOR"):
        colour = False
    elif environment.get("FORCE_COLOR"):
        colour = True
    return Style(colour, live)
