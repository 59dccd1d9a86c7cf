"""The release table: what each row of the matrix is now, as data and in plain text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from olmo.verification.report import STATES, Report, accuracy_text, same_answers, verified_text
from tasks.amounts import size_text
from tasks.assess import State
from tasks.plan import DIST, library_name, package_of, release_directory
from tasks.release import Row
from tasks.session import Session
from tasks.workspace import read_receipt

HEADER = (
    *("model", "quantization", "window", "target", "state", "library", "weights"),
    *("verified", "accuracy"),
)
SIZES = ("library", "weights")
ALIKE = ("model", "quantization", "window", "devices")  # rows that should answer alike


def release_rows(session: Session, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the matrix's rows whose package is among `names`, as data.

    Of a row that is built: "library" and "weights" in bytes, and "verified", the report on the
    library (`olmo.verification.report`); of one that answered questions after another target's
    library did, "answers": whether it gave the "same" texts as that "target".
    """
    rows = session.matrix.rows if session.matrix is not None else ()
    found = [_row(session, row) for row in rows if package_of(row) in names]
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in found:
        report = row.get("verified")
        if not report or "questions" not in report.get("accuracy", {}):
            continue
        peer = first.setdefault(tuple(row[key] for key in ALIKE), row)
        if peer is not row:
            same = same_answers(peer["verified"], report)
            row["answers"] = {"same": same, "target": peer["target"]}
    return found


def release_table(session: Session, names: Collection[str]) -> str:
    """Table of the matrix's rows whose package is among `names`; empty if there are none."""
    lines = [_line(row) for row in release_rows(session, names)]
    return render([HEADER, *lines]) if lines else ""


def render(lines: list[tuple[str, ...]]) -> str:
    """Align columns with two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _row(session: Session, row: Row) -> dict[str, Any]:
    workspace = session.workspace
    name = package_of(row)
    found: dict[str, Any] = {
        "model": row.model,
        "quantization": row.quantization,
        "window": row.window,
        "devices": str(row.devices).removeprefix("-"),
        "target": row.target,
    }
    outputs = read_receipt(workspace, name)
    if outputs is None:
        return {**found, "state": "not built"}
    assert session.matrix is not None  # noqa: S101  (rows come from it)
    suffix = session.matrix.targets[row.target].suffix
    library = outputs.get(f"libs/{library_name(row, suffix)}")
    directory = release_directory(row) + "/"
    weights = sum(
        digest.size
        for path, digest in outputs.items()
        if path.startswith(directory) and path.endswith(".bin")
    )
    return {
        **found,
        "state": _state(session, name),
        "library": library.size if library else None,
        "weights": weights,
        "verified": _report(workspace.root / DIST / f"libs/{library_name(row, '.json')}"),
    }


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    window = "-".join(filter(None, (str(row["window"]), row["devices"])))
    head = (row["model"], row["quantization"], window, row["target"], row["state"])
    sizes = [size_text(row[key]) if row.get(key) is not None else "" for key in SIZES]
    report = row.get("verified")
    if not report:
        return (*head, *sizes, "", "")
    return (*head, *sizes, verified_text(report), accuracy_text(report) + _answers(row))


def _answers(row: Mapping[str, Any]) -> str:
    if "answers" not in row:
        return ""
    same = "same" if row["answers"]["same"] else "other"
    return f", {same} answers as {row['answers']['target']}"


def _state(session: Session, name: str) -> str:
    known = session.decided.get(name)
    if session.running or known is None:
        return "built"
    words = {State.CURRENT: "built", State.CACHED: "cached", State.REMOTE: "remote"}
    return words.get(known.state, "stale")


def _report(manifest: Path) -> Report | None:
    """Return what a manifest in dist/ says of its library, None if it says nothing."""
    try:
        report = json.loads(manifest.read_text(encoding="utf-8"))["verified"]
    except (OSError, ValueError, KeyError):
        return None
    return report if isinstance(report, dict) and report.get("state") in STATES else None
