"""Boxes do not overlap, lines pass them, and what can be straight is."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.drawing.layout import _crossings, layout

BOX, LINE, GAP = 50.0, 4.0, 10.0
GRAPHS = st.lists(st.sets(st.integers(0, 20)), max_size=14).map(
    lambda rows: {str(n): [str(p) for p in sorted(row) if p < n] for n, row in enumerate(rows)}
)


def test_nothing() -> None:
    assert layout({}, BOX, LINE, GAP).height == 0


def test_a_chain_is_straight() -> None:
    found = layout({"a": [], "b": ["a"], "c": ["b"]}, BOX, LINE, GAP)
    assert found.layer == {"a": 0, "b": 1, "c": 2}
    assert set(found.y.values()) == {BOX / 2}
    assert found.height == BOX


def test_lines_are_uncrossed_where_they_can_be() -> None:
    found = layout({"a": [], "b": [], "x": ["b"], "y": ["a"]}, BOX, LINE, GAP)
    assert (found.y["a"] < found.y["b"]) == (found.y["y"] < found.y["x"])
    assert found.y["a"] == pytest.approx(found.y["y"])


@given(GRAPHS)
def test_nothing_overlaps(reads: dict[str, list[str]]) -> None:
    found = layout(reads, BOX, LINE, GAP)
    for name, given_names in reads.items():
        assert all(found.layer[p] < found.layer[name] for p in given_names)
        for producer in given_names:
            for number in range(found.layer[producer] + 1, found.layer[name]):
                assert (producer, number) in found.ways
    for number in set(found.layer.values()):
        boxes = [(found.y[n], BOX) for n, layer in found.layer.items() if layer == number]
        lines = [(y, LINE) for (_, layer), y in found.ways.items() if layer == number]
        row = sorted(boxes + lines)
        assert all(y - size / 2 >= -0.01 for y, size in row)
        assert all(y + size / 2 <= found.height + 0.01 for y, size in row)
        for (above, size), (below, other) in pairwise(row):
            assert below - above >= (size + other) / 2 + GAP - 0.01


@given(st.lists(st.sets(st.integers(0, 8), min_size=1), max_size=9))
def test_crossings_are_counted(ends: list[set[int]]) -> None:
    """Two lines cross if the one that begins further up ends further down."""
    left = [(str(number), -1) for number in range(len(ends))]
    right = [("right", number) for number in range(9)]
    after = {place: [right[n] for n in found] for place, found in zip(left, ends, strict=True)}
    pairs = combinations(ends, 2)
    expected = sum(low < high for upper, lower in pairs for high in upper for low in lower)
    assert _crossings([left, right], after) == expected


@given(GRAPHS)
def test_it_is_the_same_each_time(reads: dict[str, list[str]]) -> None:
    assert layout(reads, BOX, LINE, GAP) == layout(reads, BOX, LINE, GAP)
