"""The one exception that bad input ends in, and the suggestion for a misspelt name."""

import difflib
from collections.abc import Iterable


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
    """Return the error for a `name` that is not among `choices`, with the closest one as hint."""
    names = list(choices)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return OlmoError(f"unknown {what} {name!r}", hint)
