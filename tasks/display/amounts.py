"""Amounts as people type and read them: sizes like 20GiB, ages like 30d, durations."""

from __future__ import annotations

import re

from tasks.errors import BuildError

_SIZES = {
    "B": 1,
    **{f"{unit}iB": 1024**power for power, unit in enumerate("KMGT", 1)},
    **{f"{unit}B": 1000**power for power, unit in enumerate("kMGT", 1)},
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_size(text: str) -> int:
    """Return the bytes of a size such as "20GiB", "1.5 TB" or "0"; any other has a unit.

    Raises:
        BuildError: it is none.
    """
    return round(_amount(text, _SIZES, "size", "write it like 20GiB, 500MB or 1.5TiB"))


def size_text(size: int) -> str:
    """Bytes in binary units, three digits."""
    value, unit = float(size), 0
    while value >= 1024 and unit + 1 < len(_UNITS):
        value, unit = value / 1024, unit + 1
    return f"{value:.{0 if unit == 0 or value >= 100 else 1}f} {_UNITS[unit]}"


def parse_age(text: str) -> float:
    """Return the seconds of an age such as "30d", "12h" or "1.5w".

    Raises:
        BuildError: it is none.
    """
    return _amount(text, _SECONDS, "age", "write it like 30d, 12h, 90min or 2w")


def age_text(seconds: float) -> str:
    """Return an age in its largest unit, such as "41 s", "12 min", "3 h" or "5 d"."""
    unit = next((u for u in ("d", "h", "min") if seconds >= _SECONDS[u]), "s")
    return f"{max(0, int(seconds / _SECONDS[unit]))} {unit}"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units, such as "12 s", "3 min 20 s" or "2 h 5 min"."""
    rest, units = round(seconds), ("h", "min", "s")
    first = next((place for place, unit in enumerate(units) if rest >= _SECONDS[unit]), -1)
    words: list[str] = []
    for unit in units[first:][:2]:
        count, rest = divmod(rest, _SECONDS[unit])
        if count or not words:
            words.append(f"{count} {unit}")
    return " ".join(words)


def _amount(text: str, units: dict[str, int], what: str, hint: str) -> float:
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", text, re.ASCII)
    if found is None or (found[2] not in units and text != "0"):
        raise BuildError(f"not a {what}: {text[:80]!r}".replace("a age", "an age"), hint)
    return float(found[1]) * units.get(found[2], 0)
