"""In which fields two Actions of a node differ, in words."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, str]  # as `tasks.keys.fields` names them

SHORT = 40  # longer values are said to have changed, not shown
FEW = 4  # of more files that changed alike, the first are named and the rest counted
_FILES = ("input ", "code ")  # fields that are files, whose values are digests


@dataclass(frozen=True)
class Difference:
    """What differs, in words; `field` is the field that does, the first one of several."""

    field: str
    text: str


def differences(old: Fields, new: Fields, unknown: Collection[str] = ()) -> list[Difference]:
    """Name the fields in which two Actions differ; those in `unknown` are left out."""
    files: dict[tuple[str, str], list[str]] = {}  # by kind of file and what became of it
    found = []
    for field in sorted((old.keys() | new.keys()) - set(unknown)):
        before, after = old.get(field), new.get(field)
        if before == after:
            continue
        word = "added" if before is None else "removed" if after is None else "changed"
        kind = next((kind for kind in _FILES if field.startswith(kind)), None)
        if kind is not None:
            files.setdefault((kind, word), []).append(field)
        elif before is None or after is None:
            found.append(Difference(field, f"{field} {word}"))
        else:
            found += [Difference(field, text) for text in _changed(field, before, after)]
    for (_, word), fields in files.items():
        named = fields if len(fields) <= FEW else fields[: FEW - 1]
        found += [Difference(field, f"{field} {word}") for field in named]
        if rest := fields[len(named) :]:
            found.append(Difference(rest[0], f"{rest[0]} and {len(rest) - 1} more {word}"))
    return sorted(found, key=lambda one: one.field)


def _changed(name: str, before: str, after: str) -> list[str]:
    """Say how a value changed; of two JSON objects, which of their members."""
    old, new = _members(before), _members(after)
    if old is None or new is None:
        shown = all(len(value) <= SHORT and value.isprintable() for value in (before, after))
        return [f"{name} {before} → {after}" if shown else f"{name} changed"]
    if old.get("name") != new.get("name"):  # another thing altogether
        return _changed(name, old.get("name", "unnamed"), new.get("name", "unnamed"))
    found = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new:
            found.append(f"{name}.{key} {'removed' if key in old else 'added'}")
        elif old[key] != new[key]:
            found += _changed(f"{name}.{key}", old[key], new[key])
    return found


def _members(value: str) -> dict[str, str] | None:
    """Return the members of a JSON object as text, None for anything else."""
    try:
        found = json.loads(value) if value.startswith("{") else None
    except ValueError:
        return None
    return {key: _text(member) for key, member in found.items()} if found is not None else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
