"""A report as Markdown, as GitHub shows it in a README or in the summary of a step."""

from __future__ import annotations

import re
from collections.abc import Iterable

from olmo.verification.report import accuracy_text, verified_text
from tasks.report import words
from tasks.report.elements import address
from tasks.report.releases import Cell, FileRole, Release

# Colour, where there is no other than that of characters.
MARKS = {
    "built": "🟩",
    "cached": "🟦",
    "remote": "🟪",
    "stale": "🟨",
    "not built": "⬜",
    "broken": "🟥",
}
COLUMNS = (
    *("model", "quantization", "window", "target", "state", "library", "weights"),
    *("build time", "verified", "accuracy", "key", "files"),
)
_SPECIAL = re.compile(r"([\\`*\[\]|~!])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown_text(release: Release, dist: str) -> str:
    """Return a report as Markdown; `dist` is where dist/ is, seen from the file it is put into."""
    if not release.cells:
        return "# Release matrix\n\nNothing is selected.\n"
    counts = [f"{count} {state}" for state, count in words.states(release)]
    verified = [f"{count} {state}" for state, count in words.verifications(release)]
    total = words.counted(len(release.cells), "library", "libraries")
    parts = [
        "# Release matrix",
        f"{words.product(release)}. {total}: {'; '.join(filter(None, map(_listed, (counts, verified))))}.",
    ]
    targets = release.targets
    for model in dict.fromkeys(cell.model for cell in release.cells):
        rows = [
            [_code(quantization), text(variant), *(_shown(cells.get(target)) for target in targets)]
            for (name, quantization, variant), cells in release.rows.items()
            if name == model
        ]
        parts.append(f"## {text(model)}")
        parts.append(_table(["quantization", "window", *map(_code, targets)], rows))
    lines = [_line(cell, dist) for cell in release.cells]
    parts.append("<details><summary>Every library</summary>")
    parts.append(_table(COLUMNS, lines))
    parts.append("</details>")
    return "\n\n".join(parts) + "\n"


def text(value: str) -> str:
    """Escape what Markdown and HTML would take for theirs."""
    escaped = _SPECIAL.sub(lambda found: "\\" + found[0], " ".join(value.split()))
    return "".join(_ENTITIES.get(letter, letter) for letter in escaped)


def _code(name: str) -> str:
    """Return a name as code; one that could end the code, or a cell, as text."""
    return text(name) if set(name) & set("`|\\\n<>&") else f"`{name}`"


def _listed(counts: list[str]) -> str:
    return ", ".join(counts)


def _shown(cell: Cell | None) -> str:
    """Return a cell of the matrix, in short lines."""
    if cell is None:
        return ""
    lines = [
        f"{MARKS[cell.state]} {cell.state}",
        None if cell.library is None else words.size(cell.library),
        words.verified(cell),
        ", ".join(filter(None, (words.questions(cell), words.logits(cell)))),
    ]
    return "<br>".join(filter(None, lines))


def _line(cell: Cell, dist: str) -> list[str]:
    """Return all of a cell, as a row of the long table."""
    report = cell.verified
    links = [_link(role, cell, dist) for role in cell.files]
    return [
        text(cell.model),
        _code(cell.quantization),
        text(cell.variant),
        _code(cell.target),
        cell.state + (f": {text(cell.reason)}" if cell.reason and cell.state != "cached" else ""),
        words.size(cell.library),
        words.size(cell.weights),
        words.time(cell.seconds),
        words.UNKNOWN if report is None else text(verified_text(report)),
        ", ".join(filter(None, (accuracy_text(report) if report else None, words.answers(cell)))),
        _code(words.short_key(cell)),
        ", ".join(links),
    ]


def _link(role: FileRole, cell: Cell, dist: str) -> str:
    return f"[{role}]({address(f'{dist}/{cell.files[role]}')})"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(header)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
