"""The colours of the page, light and dark, by the name of their custom property in page.css.

Text on what is behind it has a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), marks of charts
one of 3 to 1 (1.4.11): `TEXT` and `MARKS` are the pairs, and a test computes them.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "page": "#fbfaf7",
    "panel": "#ffffff",
    "text": "#1d2421",
    "quiet": "#59635e",
    "line": "#d9ddd8",
    "grid": "#e8ebe6",
    "accent": "#2f6f5e",
    "built": "#1f6145",
    "built-back": "#eaf4ee",
    "cached": "#1f5182",
    "cached-back": "#e9f1f9",
    "remote": "#5d4191",
    "remote-back": "#f1edf9",
    "stale": "#7a4d00",
    "stale-back": "#fcf2dc",
    "not-built": "#59635e",
    "not-built-back": "#f1f2ee",
    "broken": "#9b2318",
    "broken-back": "#fceae7",
}
DARK: Mapping[str, str] = {
    "page": "#141816",
    "panel": "#1b211e",
    "text": "#e6ebe8",
    "quiet": "#9daba4",
    "line": "#343d39",
    "grid": "#28302c",
    "accent": "#7cc4ac",
    "built": "#86d0ae",
    "built-back": "#1b2e26",
    "cached": "#8fc0ee",
    "cached-back": "#1b2a38",
    "remote": "#c3aef0",
    "remote-back": "#292338",
    "stale": "#e8bd63",
    "stale-back": "#322a16",
    "not-built": "#9daba4",
    "not-built-back": "#222825",
    "broken": "#ff9d90",
    "broken-back": "#3a211e",
}
STATES = ("built", "cached", "remote", "stale", "not-built", "broken")
TEXT = (
    *((text, back) for text in ("text", "quiet", "accent") for back in ("page", "panel")),
    *((state, f"{state}-back") for state in STATES),
    *((state, "panel") for state in STATES),
    *((text, f"{state}-back") for text in ("text", "quiet") for state in STATES),
)
MARKS = (("accent", "panel"), ("text", "panel"))


def style() -> str:
    """Return the custom properties: light, and dark where the reader or the system says so."""
    dark = _properties(DARK, "dark")
    return (
        f":root {{\n{_properties(LIGHT, 'light')}}}\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n"
        f":root:not(:has(#scheme-light:checked)) {{\n{dark}}}\n}}\n"
        f"@media screen {{\n:root:has(#scheme-dark:checked) {{\n{dark}}}\n}}\n"
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _properties(colours: Mapping[str, str], scheme: str) -> str:
    lines = [f"color-scheme: {scheme};", *(f"--{name}: {hue};" for name, hue in colours.items())]
    return "".join(f"  {line}\n" for line in lines)


def _luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb", from 0 to 1 (WCAG 2.2)."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
