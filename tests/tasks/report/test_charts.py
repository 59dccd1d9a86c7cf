"""Axes and charts: every value is at its place, and every tick at a round number."""

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.report.charts import (
    WIDTH,
    Axis,
    Line,
    bars,
    dots,
    numbers_axis,
    powers_axis,
    sizes_axis,
    times_axis,
)

POSITIVE = st.lists(st.floats(1e-9, 1e15), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (3.2 * 2**20, ["0", "1", "2", "3 MiB"]),
        (900, ["0", "500 B"]),
        (731 * 1024, ["0", "200", "400", "600 KiB"]),
        (1010 * 1024, ["0", "500", "1000 KiB"]),
        (0, ["0", "0.5", "1 B"]),
    ],
)
def test_ticks_of_sizes(top: float, ticks: list[str]) -> None:
    assert [told for _, told in sizes_axis([top]).ticks] == ticks


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (50, ["0", "20", "40 s"]),
        (700, ["0", "5", "10 min"]),
        (7200, ["0", "0.5", "1", "1.5", "2 h"]),
    ],
)
def test_ticks_of_times(top: float, ticks: list[str]) -> None:
    assert [told for _, told in times_axis([top]).ticks] == ticks


def test_ticks_of_powers() -> None:
    axis = powers_axis([1e-6, 1e-3], 1e-6)
    assert [told for _, told in axis.ticks] == ["1e-06", "1e-05", "1e-04", "1e-03"]
    assert [round(axis.place(10.0**power), 6) for power in (-7, -6, -3)] == [0, 0, 1]
    assert [told for _, told in powers_axis([1e-6], 1e-6).ticks] == ["1e-06", "1e-05"]
    assert powers_axis([1.0], 1e-6).ticks[-1] == (1.0, "1e+00")


@given(POSITIVE, st.sampled_from([sizes_axis, numbers_axis, times_axis]))
def test_linear_axes_hold_their_values(values: list[float], axis_of: object) -> None:
    axis: Axis = axis_of(values)  # type: ignore[operator]
    places = [axis.place(value) for value, _ in axis.ticks]
    assert places == sorted(places)
    assert len(places) <= 6
    assert all(0 <= place <= 1 + 1e-9 for place in [*places, *map(axis.place, values)])


def texts(chart: ET.Element, name: str) -> list[str | None]:
    return [one.text for one in chart.iter("text") if one.get("class") == name]


def test_a_bar_ends_at_its_value() -> None:
    lines = [Line("a", (1.0,), "one"), Line("b", (4.0,), "four"), Line("c", (0.0,), "none")]
    chart = bars(lines, numbers_axis([4.0]), "numbers")
    widths = [float(bar.attrib["width"]) for bar in chart.iter("rect")]
    assert math.isclose(widths[1] / widths[0], 4, rel_tol=0.01)
    assert widths[2] == 1
    assert chart.attrib["aria-label"] == "numbers"
    assert (texts(chart, "name"), texts(chart, "value")) == (
        ["a", "b", "c"],
        ["one", "four", "none"],
    )
    ends = [float(one.attrib["x"]) for one in chart.iter("text")]
    assert 0 < min(ends) < max(ends) < float(chart.attrib["viewBox"].split()[2]) <= WIDTH + 0.1


def test_a_dot_for_each_value() -> None:
    chart = dots([Line("a", (1.0, 2.0), ""), Line("b", (3.0,), "")], numbers_axis([3.0]), "")
    places = [float(dot.attrib["cx"]) for dot in chart.iter("circle")]
    assert places == sorted(places)
    assert len(places) == 3
