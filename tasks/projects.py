"""Projects that use a store, seen from outside: what each needs, and which node made which result."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.errors import BuildError
from tasks.state import read_values
from tasks.workspace import BUILD, RECEIPTS, STATE, read_outputs


def needs(root: Path) -> set[str]:
    """Return the sha256 in all receipts of a project: of what is in place, or can be put there.

    Raises:
        BuildError: they cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise BuildError(
                f"{error.filename}: {error.strerror}: what this project needs cannot be read",
                "make it readable, or remove the project",
            ) from None

    found: set[str] = set()
    for directory, _, names in os.walk(root / BUILD / RECEIPTS, onerror=refuse):
        for name in names:
            outputs = read_outputs(Path(directory, name)) or {}
            found.update(digest.hash for digest in outputs.values())
    return found


def nodes_by_key(roots: Iterable[Path]) -> Mapping[str, str]:
    """Return the names of the nodes whose last successes projects remember, by sha256 of the key."""
    found = {}
    for root in roots:
        try:
            values = read_values(root / BUILD / STATE)
        except sqlite3.Error:  # a project without it, or with another one's
            continue
        for name, known in values.items():
            if isinstance(known.get("key"), str):
                found[known["key"]] = name
    return found
