"""The release table: what each row of the matrix is now, in plain text."""

from __future__ import annotations

from collections.abc import Collection

from olmo.verification.report import accuracy_text, verified_text
from tasks.display.amounts import size_text
from tasks.report import words
from tasks.report.gather import cells
from tasks.report.releases import Cell
from tasks.session import Session

HEADER = (
    *("model", "quantization", "window", "target", "state", "library", "weights"),
    *("verified", "accuracy"),
)


def release_table(session: Session, names: Collection[str]) -> str:
    """Table of the matrix's rows whose package is among `names`; empty if there are none."""
    lines = [_line(cell) for cell in cells(session, names)]
    return render([HEADER, *lines]) if lines else ""


def render(lines: list[tuple[str, ...]]) -> str:
    """Align columns with two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _line(cell: Cell) -> tuple[str, ...]:
    sizes = ["" if size is None else size_text(size) for size in (cell.library, cell.weights)]
    head = (*cell.row, cell.target, cell.state, *sizes)
    if cell.verified is None:
        return (*head, "", "")
    accuracy = ", ".join(filter(None, (accuracy_text(cell.verified), words.answers(cell))))
    return (*head, verified_text(cell.verified), accuracy)
