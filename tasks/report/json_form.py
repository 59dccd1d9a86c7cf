"""A report as JSON: docs/report.schema.json is its schema, docs/report.md says the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tasks.report.releases import Cell, Release

VERSION = 1  # of the form; a field that is added leaves it, any other change raises it


def json_text(release: Release) -> str:
    """Return a report as JSON, with a line break at the end."""
    value = {
        "version": VERSION,
        "cells": [cell_json(cell) for cell in release.cells],
        "conversions": [asdict(conversion) for conversion in release.conversions],
        "nodes": [asdict(step) for step in release.steps],
    }
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON values."""
    return asdict(cell)
