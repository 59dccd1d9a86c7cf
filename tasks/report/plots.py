"""What a report plots of each model: sizes, errors of weights, errors of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from xml.etree import ElementTree as ET

from olmo.verification.report import LADDER
from tasks.report import words
from tasks.report.charts import (
    Axis,
    Line,
    bars,
    dots,
    numbers_axis,
    powers_axis,
    sizes_axis,
    times_axis,
)
from tasks.report.records import Conversion
from tasks.report.releases import Cell, Release


@dataclass(frozen=True)
class Plot:
    """A group of charts with one axis: what it shows, how to read it, and each chart by its title."""

    title: str
    note: str
    charts: tuple[tuple[str, ET.Element], ...]


def plots(release: Release, model: str) -> tuple[Plot, ...]:
    """Return what can be plotted of a model, in order."""
    cells = [cell for cell in release.cells if cell.model == model]
    conversions = [found for found in release.conversions if found.model == model]
    found = (
        _libraries(cells),
        _weights(conversions),
        _errors(conversions),
        _times(release, cells),
        _logits(cells),
    )
    return tuple(plot for plot in found if plot.charts)


def _libraries(cells: Sequence[Cell]) -> Plot:
    return Plot(
        "Size of libraries",
        "By quantization; of several windows the largest.",
        _panels(
            cells,
            lambda cell: cell.library,
            lambda value, _: words.size(round(value)),
            sizes_axis,
            bars,
            "size of libraries",
        ),
    )


def _weights(conversions: Sequence[Conversion]) -> Plot:
    axis = sizes_axis([found.bytes for found in conversions])
    lines = [
        Line(found.quantization, (found.bytes,), words.size(found.bytes)) for found in conversions
    ]
    bits = ", ".join(f"{c.quantization} {c.bits_per_parameter:.3g}" for c in conversions)
    return Plot(
        "Size of weights",
        f"Bits for each parameter: {bits}.",
        _single("All shards", lines, lambda: bars(lines, axis, _said("size of weights", lines))),
    )


def _errors(conversions: Sequence[Conversion]) -> Plot:
    measured = [found for found in conversions if found.weights]
    axis = numbers_axis([w.mean_error for found in measured for w in found.weights])
    lines = [
        Line(
            found.quantization,
            tuple(sorted(weight.mean_error for weight in found.weights)),
            f"{fmean(weight.mean_error for weight in found.weights):.2g}",
        )
        for found in measured
    ]
    largest = ", ".join(
        f"{found.quantization} {max(w.max_error for w in found.weights):.2g}" for found in measured
    )
    return Plot(
        "Errors of quantized weights",
        "A dot is a weight matrix: the mean distance of its stored values from the checkpoint's, in "
        f"their own units; beside the dots is their mean. Largest distance of any value: {largest}.",
        _single("Mean error", lines, lambda: dots(lines, axis, _said("mean error", lines))),
    )


def _times(release: Release, cells: Sequence[Cell]) -> Plot:
    needed = {name for cell in cells for name in cell.nodes}
    steps = [step for step in release.steps if step.name in needed]
    seconds: dict[str, float] = {}
    for step in steps:
        if step.seconds is not None:
            seconds[step.kind] = seconds.get(step.kind, 0.0) + step.seconds
    lines = [Line(kind, (ran,), words.time(ran)) for kind, ran in seconds.items()]
    known = sum(step.seconds is not None for step in steps)
    axis = times_axis(list(seconds.values()))
    return Plot(
        "Time of building",
        "How long actions ran for all that is here, wherever that was, by their kind. Known of "
        f"{known} of {words.counted(len(steps), 'node')}.",
        _single("All actions", lines, lambda: bars(lines, axis, _said("time of building", lines))),
    )


def _logits(cells: Sequence[Cell]) -> Plot:
    def text(value: float, cell: Cell) -> str:
        return " ".join(filter(None, (words.error(value), words.questions(cell))))

    return Plot(
        "Errors of logits",
        "Of libraries that were executed: the bound of the largest error, relative to the largest "
        "logit, and questions answered right; of several windows the worst.",
        _panels(
            cells,
            lambda cell: words.accuracy(cell).get("logits_within"),
            text,
            lambda values: powers_axis(values, LADDER[0]),
            dots,
            "error of logits",
        ),
    )


def _panels(
    cells: Sequence[Cell],
    value_of: Callable[[Cell], float | None],
    text_of: Callable[[float, Cell], str],
    axis_of: Callable[[Sequence[float]], Axis],
    draw: Callable[[Sequence[Line], Axis, str], ET.Element],
    what: str,
) -> tuple[tuple[str, ET.Element], ...]:
    """Return a chart for each quantization with a row for each target, all on one axis."""
    worst: dict[str, dict[str, tuple[float, Cell]]] = {}
    for cell in cells:
        value = value_of(cell)
        if value is None:
            continue
        of_target = worst.setdefault(cell.quantization, {})
        if cell.target not in of_target or value > of_target[cell.target][0]:
            of_target[cell.target] = (value, cell)
    axis = axis_of([value for found in worst.values() for value, _ in found.values()])
    made = []
    for quantization, found in worst.items():
        lines = [
            Line(target, (value,), text_of(value, cell)) for target, (value, cell) in found.items()
        ]
        made.append((quantization, draw(lines, axis, _said(f"{quantization}: {what}", lines))))
    return tuple(made)


def _single(
    title: str, lines: Sequence[Line], draw: Callable[[], ET.Element]
) -> tuple[tuple[str, ET.Element], ...]:
    return ((title, draw()),) if lines else ()


def _said(what: str, lines: Sequence[Line]) -> str:
    """Return a chart in words."""
    return f"{what}: " + ", ".join(f"{line.name} {line.text}" for line in lines)
