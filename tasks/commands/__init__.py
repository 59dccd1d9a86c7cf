"""Olmill's own doit commands, a module each.

Whatever command is given, doit imports this first of all that is ours. So here is said what Ctrl-C
is told as while the rest is imported: one line, as it is when a command has begun. While Python and
doit themselves start, it is Python's traceback.
"""

import sys
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell an exception that nobody has caught; after KeyboardInterrupt Python ends by SIGINT."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\ninterrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:  # whoever has another one knows better
    sys.excepthook = _tell
