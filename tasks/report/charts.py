"""Charts of a report as SVG: rows of bars or dots along one axis, each with its value beside it.

Sizes are in CSS pixels at a width of `WIDTH`, which is that of a phone. Colours are the page's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from tasks.display.amounts import size_text
from tasks.report.elements import element
from tasks.report.words import error

WIDTH = 358
ROW = 22
TOP = 6
AXIS = 26  # what is below the rows: ticks and their texts
LETTER = 6.7  # width of a letter, which are monospaced
_MOST_TICKS = 4
_TIMES = ((3600, "h"), (60, "min"))


@dataclass(frozen=True)
class Axis:
    """An axis: its ticks with their texts, and the place of a value on it, from 0 to 1."""

    ticks: tuple[tuple[float, str], ...]
    place: Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """A row of a chart: a name, values, and what is written beside the last of them."""

    name: str
    values: tuple[float, ...]
    text: str


def sizes_axis(values: Sequence[float]) -> Axis:
    """Return an axis of bytes from 0, with ticks at round numbers in binary units."""
    top = max([1.0, *values])
    unit = 1024 ** min(4, int(math.log(top, 1024)))
    return _linear(top, _step(top / unit) * unit, unit, size_text(unit).split()[1])


def numbers_axis(values: Sequence[float]) -> Axis:
    """Return an axis of numbers from 0."""
    top = max(values, default=0) or 1.0
    return _linear(top, _step(top), 1, "")


def times_axis(values: Sequence[float]) -> Axis:
    """Return an axis of seconds from 0, told in the unit that fits."""
    top = max(values, default=0) or 1.0
    scale, unit = next(((s, u) for s, u in _TIMES if top >= 2 * s), (1, "s"))
    return _linear(top, _step(top / scale) * scale, scale, unit)


def powers_axis(values: Sequence[float], least: float) -> Axis:
    """Return a logarithmic axis over powers of ten, from `least`."""
    low = round(math.log10(least))
    high = max([low + 1, *(math.ceil(math.log10(max(value, least)) - 1e-9) for value in values)])
    ticks = tuple((10.0**power, error(10.0**power)) for power in range(low, high + 1))
    return Axis(ticks, lambda value: (math.log10(max(value, least)) - low) / (high - low))


def bars(lines: Sequence[Line], axis: Axis, described: str) -> ET.Element:
    """Return a chart of a bar for each row, which ends at its value."""
    return _chart(lines, axis, described, _bar)


def dots(lines: Sequence[Line], axis: Axis, described: str) -> ET.Element:
    """Return a chart of dots, one for each value of a row."""
    return _chart(lines, axis, described, _dots)


def _bar(line: Line, x: Callable[[float], float], y: float) -> list[ET.Element]:
    width = x(line.values[-1]) - x(0)
    shape = {"x": _text(x(0)), "y": _text(y - 6), "width": _text(max(width, 1)), "height": "12"}
    return [element("rect", {"class": "bar", **shape})]


def _dots(line: Line, x: Callable[[float], float], y: float) -> list[ET.Element]:
    return [
        element("circle", {"class": "dot", "cx": _text(x(value)), "cy": _text(y), "r": 3.5})
        for value in line.values
    ]


def _chart(
    lines: Sequence[Line],
    axis: Axis,
    described: str,
    marks: Callable[[Line, Callable[[float], float], float], list[ET.Element]],
) -> ET.Element:
    """Return a chart; `described` says in words what it shows, for those who do not see it."""
    left = 10 + LETTER * max(len(line.name) for line in lines)
    right = 16 + LETTER * max(len(line.text) for line in lines)
    length = max(WIDTH - left - right, 80)
    bottom = TOP + ROW * len(lines)

    def x(value: float) -> float:
        return left + length * min(axis.place(value), 1)

    box = f"0 0 {_text(left + length + right)} {bottom + AXIS}"
    made = element("svg", {"viewBox": box, "role": "img", "aria-label": described})
    for value, told in axis.ticks:
        at = _text(x(value))
        made.append(element("line", {"class": "grid", "x1": at, "x2": at, "y1": 0, "y2": bottom}))
        made.append(element("text", {"class": "tick", "x": at, "y": bottom + 16}, told))
    for number, line in enumerate(lines):
        y = TOP + ROW * (number + 0.5)
        end = _text(x(max(line.values)) + 8)
        place = {"x": _text(left - 10), "y": _text(y + 4)}
        made.append(element("text", {"class": "name", **place}, line.name))
        made.extend(marks(line, x, y))
        made.append(element("text", {"class": "value", "x": end, "y": _text(y + 4)}, line.text))
    return made


def _linear(top: float, step: float, scale: float, unit: str) -> Axis:
    """Return an axis from 0 to `top`, the last of whose ticks says the unit, of `scale`."""
    places = [step * number for number in range(math.floor(top / step * (1 + 1e-9)) + 1)]
    told = [f"{place / scale:g}" for place in places]
    told[-1] = f"{told[-1]} {unit}".rstrip()
    return Axis(tuple(zip(places, told, strict=True)), lambda value: value / top)


def _step(top: float) -> float:
    """Return the round number of which a few make `top`: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(top / _MOST_TICKS))
    return next(
        (power * times for times in (1, 2, 5) if top / (power * times) <= _MOST_TICKS), power * 10
    )


def _text(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
