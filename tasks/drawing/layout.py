"""Layers from left to right: where the boxes of a graph go, and the lines between them.

Each box is right of all that it reads. A line over several layers has a place in each, so that it
passes boxes instead of crossing them; lines from one box share it until they part. Boxes of a layer
are ordered by the places of their neighbours, to and fro, which leaves few crossings (Sugiyama,
Tagawa, Toda 1981), and then moved towards them as far as the order and their distance allow.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
_BOX = -1
_Place = tuple[str, int]  # a box (name, _BOX), or the line from a box in a layer on its way


@dataclass(frozen=True)
class Layout:
    """Layer and centre (y) of each box; y of each line by its producer and layer; the height."""

    layer: Mapping[str, int]
    y: Mapping[str, float]
    ways: Mapping[tuple[str, int], float]
    height: float


def layout(reads: Mapping[str, Sequence[str]], box: float, line: float, gap: float) -> Layout:
    """Lay out a graph: what each box reads, producers first; heights of boxes and lines, and gaps."""
    layer: dict[str, int] = {}
    for name, given in reads.items():
        layer[name] = max((layer[p] + 1 for p in given), default=0)
    layers: list[dict[_Place, None]] = [{} for _ in range(max(layer.values(), default=-1) + 1)]
    before: dict[_Place, dict[_Place, None]] = {}
    after: dict[_Place, dict[_Place, None]] = {}
    for name, given in reads.items():
        layers[layer[name]][name, _BOX] = None
        for producer in given:
            between = range(layer[producer] + 1, layer[name])
            way: list[_Place] = [(producer, _BOX), *((producer, n) for n in between), (name, _BOX)]
            for left, right in pairwise(way):
                before.setdefault(right, {})[left] = None
                after.setdefault(left, {})[right] = None
            for number in between:
                layers[number][producer, number] = None
    rows = [list(row) for row in layers]
    neighbours = _lists(before), _lists(after)
    _order(rows, *neighbours)

    def size(place: _Place) -> float:
        return box if place[1] == _BOX else line

    y = _heights(rows, *neighbours, size, gap)
    top = min((y[place] - size(place) / 2 for place in y), default=0.0)
    return Layout(
        layer,
        {name: y[name, _BOX] - top for name in reads},
        {place: y[place] - top for place in y if place[1] != _BOX},
        max((y[place] + size(place) / 2 - top for place in y), default=0.0),
    )


def _lists(places: Mapping[_Place, Iterable[_Place]]) -> dict[_Place, list[_Place]]:
    return {place: list(neighbours) for place, neighbours in places.items()}


_Neighbours = Mapping[_Place, Sequence[_Place]]


def _order(layers: list[list[_Place]], before: _Neighbours, after: _Neighbours) -> None:
    """Sort each layer by the mean place of the neighbours, from the left and from the right."""
    best = [list(row) for row in layers]
    fewest = _crossings(layers, after)
    for sweep in range(SWEEPS):
        rightwards = sweep % 2 == 0
        neighbours = before if rightwards else after
        rows = layers if rightwards else layers[::-1]
        for fixed, row in pairwise(rows):
            places = {place: number for number, place in enumerate(fixed)}
            here = {place: float(number) for number, place in enumerate(row)}
            row.sort(
                key=lambda place: _mean([places[n] for n in neighbours.get(place, ())], here[place])
            )
        crossings = _crossings(layers, after)
        if crossings < fewest:
            best, fewest = [list(row) for row in layers], crossings
    layers[:] = best


def _crossings(layers: Sequence[Sequence[_Place]], after: _Neighbours) -> int:
    """Count the pairs of lines that cross."""
    count = 0
    for left, right in pairwise(layers):
        places = {place: number for number, place in enumerate(right)}
        before: list[int] = []  # where the lines end that begin further up, in order
        for place in left:
            ends = [places[other] for other in after.get(place, ())]
            count += sum(len(before) - bisect_right(before, end) for end in ends)
            for end in ends:
                insort(before, end)
    return count


def _heights(
    layers: Sequence[Sequence[_Place]],
    before: _Neighbours,
    after: _Neighbours,
    size: Callable[[_Place], float],
    gap: float,
) -> dict[_Place, float]:
    """Move places towards their neighbours, keeping their order and distance."""
    y: dict[_Place, float] = {}
    for row in layers:
        position = 0.0
        for place in row:
            y[place] = position + size(place) / 2
            position += size(place) + gap
        for place in row:
            y[place] -= position / 2
    for sweep in range(SWEEPS):
        neighbours = before if sweep % 2 == 0 else after
        for row in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = [_mean([y[n] for n in neighbours.get(place, ())], y[place]) for place in row]
            y |= zip(row, _apart(wanted, [size(place) + gap for place in row]), strict=True)
    return y


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return positions in order, each half its size and half the last one's from that, near those wanted.

    The least squares of all such positions: pool adjacent violators (Ayer et al. 1955).
    """
    offsets, offset = [], 0.0
    for number, size in enumerate(sizes):
        offset += (size + sizes[number - 1]) / 2 if number else 0.0
        offsets.append(offset)
    pools: list[tuple[float, int]] = []  # mean of what is wanted, and of how many
    for want, offset in zip(wanted, offsets, strict=True):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
