"""The release table: what each row of the matrix is now, in plain text."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tasks.assess import State
from tasks.plan import DIST, library_name, package_of, release_directory
from tasks.release import Row
from tasks.session import Session
from tasks.workspace import read_receipt

HEADER = ("model", "quantization", "window", "target", "state", "library", "weights", "verified")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def release_table(session: Session, names: Collection[str]) -> str:
    """Table of the matrix's rows whose package is among `names`; empty if there are none."""
    rows = session.matrix.rows if session.matrix is not None else ()
    lines = [_line(session, row) for row in rows if package_of(row) in names]
    return render([HEADER, *lines]) if lines else ""


def render(lines: list[tuple[str, ...]]) -> str:
    """Align columns with two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size_text(size: int) -> str:
    """Bytes in binary units, three digits."""
    value, unit = float(size), 0
    while value >= 1024 and unit + 1 < len(UNITS):
        value, unit = value / 1024, unit + 1
    return f"{value:.{0 if unit == 0 or value >= 100 else 1}f} {UNITS[unit]}"


def _line(session: Session, row: Row) -> tuple[str, ...]:
    workspace = session.workspace
    name = package_of(row)
    head = (row.model, row.quantization, str(row.window), row.target)
    outputs = read_receipt(workspace, name)
    if outputs is None:
        return (*head, "not built", "", "", "")
    assert session.matrix is not None  # noqa: S101  (rows come from it)
    suffix = session.matrix.targets[row.target].suffix
    library = outputs.get(f"libs/{library_name(row, suffix)}")
    directory = release_directory(row) + "/"
    weights = sum(
        digest.size
        for path, digest in outputs.items()
        if path.startswith(directory) and path.endswith(".bin")
    )
    manifest = workspace.root / DIST / f"libs/{library_name(row, '.json')}"
    return (
        *head,
        _state(session, name),
        size_text(library.size) if library else "",
        size_text(weights),
        _verified(manifest),
    )


def _state(session: Session, name: str) -> str:
    known = session.decided.get(name)
    if session.running or known is None:
        return "built"
    words = {State.CURRENT: "built", State.CACHED: "cached"}
    return words.get(known.state, "stale")


def _verified(manifest: Any) -> str:
    try:
        report = json.loads(manifest.read_text(encoding="utf-8"))["verified"]
    except (OSError, ValueError, KeyError):
        return ""
    return str(report.get("summary", ""))
