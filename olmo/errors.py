"""The one exception that bad input ends in, and the suggestion for a misspelt name."""

import difflib
from collections.abc import Iterable

DISK_HINT = "free some space there, raise the limit (ulimit -f, quota), or use another disk"

_MANY = 3  # suggestions at most


class OlmoError(Exception):
    """A user's mistake or a broken input, told in one line.

    `str(error)` names the file, key or tensor; `hint` says the way out, or is None.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[type["OlmoError"], tuple[str, str | None]]:
        """Keep the hint when the error crosses a process boundary."""
        return type(self), (str(self), self.hint)


def unknown(what: str, name: str, choices: Iterable[str]) -> OlmoError:
    """Return the error for a `name` that is not among `choices`, with the closest as hint."""
    names = list(choices)
    close = difflib.get_close_matches(name, names, n=_MANY, cutoff=0.5)
    best = [other for other in close if _likeness(other, name) == _likeness(close[0], name)]
    hint = (
        f"did you mean {' or '.join(map(repr, sorted(best)))}?"
        if close
        else f"known: {', '.join(names)}"
    )
    return OlmoError(f"unknown {what} {name!r}", hint if names else "there is none")


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
