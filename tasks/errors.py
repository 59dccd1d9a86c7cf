"""The exception that a mistake in a project ends in, told in one line with the way out."""

from __future__ import annotations


class BuildError(Exception):
    """A build that cannot go on; `str(error)` names what is wrong, `hint` what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[type[BuildError], tuple[str, str | None]]:
        """Keep the hint when the error crosses a process boundary."""
        return type(self), (str(self), self.hint)
