"""How a report says what it knows: the same words in every form."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tasks.display.amounts import duration_text, size_text
from tasks.report.releases import CELL_STATES, Cell, Release

UNKNOWN = "unknown"
SHORT = 12  # hexadecimal digits of a key that are shown

# What is said of a library whose cell has nothing to say of it, and what each word means.
VERIFIED = {
    "executed": "it ran: its logits were held against numpy, and the model's questions were asked",
    "checked": "it was looked at, by all means there are without its device; it never ran",
    "unverified": "what would run or check it is not installed",
}


def size(count: int | None) -> str:
    """Bytes in words."""
    return UNKNOWN if count is None else size_text(count)


def time(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.1f} s" if seconds < 60 else duration_text(seconds)


def short_key(cell: Cell) -> str:
    """The first digits of a key."""
    return UNKNOWN if cell.key is None else cell.key[:SHORT]


def accuracy(cell: Cell) -> dict[str, Any]:
    """What was measured of a library, nothing if it was not executed."""
    return dict((cell.verified or {}).get("accuracy", {}))


def verified(cell: Cell) -> str | None:
    """How a library was verified, in one word."""
    return None if cell.verified is None else str(cell.verified["state"])


def questions(cell: Cell) -> str | None:
    """How many questions came out right."""
    found = accuracy(cell).get("questions")
    return None if found is None else f"{found['right']}/{found['total']}"


def answers(cell: Cell) -> str | None:
    """Whether the answers are those of another target's library."""
    found = cell.answers
    return (
        None if found is None else f"{'same' if found.same else 'other'} answers as {found.target}"
    )


def logits(cell: Cell) -> str | None:
    """The bound of the largest error of a logit."""
    found = accuracy(cell).get("logits_within")
    return None if found is None else error(found)


def error(number: float) -> str:
    """An error with one digit, as reports of verification have it."""
    return f"{number:.0e}"


def counted(count: int, what: str, many: str | None = None) -> str:
    """A number of things."""
    return f"{count} {what if count == 1 else many or what + 's'}"


def product(release: Release) -> str:
    """The axes of the matrix: "1 model × 3 quantizations × 2 windows × 10 targets"."""
    axes = {
        "model": {cell.model for cell in release.cells},
        "quantization": {cell.quantization for cell in release.cells},
        "window": {cell.variant for cell in release.cells},
        "target": {cell.target for cell in release.cells},
    }
    return " × ".join(counted(len(values), what) for what, values in axes.items())


def states(release: Release) -> list[tuple[str, int]]:
    """How many cells have each state, of those that any has."""
    found = Counter(cell.state for cell in release.cells)
    return [(state, found[state]) for state in CELL_STATES if found[state]]


def verifications(release: Release) -> list[tuple[str, int]]:
    """How many libraries were verified in each way, of those in which any was."""
    found = Counter(map(verified, release.cells))
    return [(state, found[state]) for state in VERIFIED if found[state]]
