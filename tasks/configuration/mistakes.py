"""Mistakes in a TOML file, collected to be told all at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from olmo.errors import unknown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Key:
    """A key that a table may have: the form of its value, its meaning, its default in words.

    Without a default it has to be given. `of` are the kinds of table that have it, if not all do.
    docs/matrix.md is made of these.
    """

    form: str
    meaning: str
    default: str | None = None
    of: tuple[str, ...] = ()


class Mistakes:
    """A list of mistakes, each with its TOML path and, where there is one, a suggestion."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, where: str, message: str, hint: str | None = None) -> None:
        """Note a mistake."""
        self.lines.append(f"{where}: {message}" + (f" (hint: {hint})" if hint else ""))

    def unknown(self, where: str, what: str, name: str, known: Iterable[str]) -> None:
        """Note a name that is not among the known ones."""
        error = unknown(what, name, sorted(known))
        self.add(where, str(error), error.hint)

    def keys(self, where: str, table: Mapping[str, Any], known: Mapping[str, Key]) -> None:
        """Note each key of a table that is not among the known ones."""
        for key in table:
            if key not in known:
                self.unknown(f"{where}.{key}" if where else key, "key", key, known)


def tables(where: str, value: Any, mistakes: Mistakes) -> Mapping[str, Mapping[str, Any]]:
    """Return the well-named tables of a table of tables; note the others."""
    if not isinstance(value, Mapping):
        mistakes.add(where, f"expected tables, found {type(value).__name__}")
        return {}
    good = {}
    for name, item in value.items():
        if not isinstance(item, Mapping):
            mistakes.add(f"{where}.{name}", f"expected a table, found {type(item).__name__}")
        elif is_name(f"{where}.{name}", name, mistakes):
            good[name] = item
    return good


def is_name(where: str, name: str, mistakes: Mistakes) -> bool:
    """Return whether a text can be a name; note it otherwise."""
    if _NAME.fullmatch(name):
        return True
    mistakes.add(where, "names are letters, digits, '.', '_' and '-', without spaces")
    return False
