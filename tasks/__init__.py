"""The build graph: matrix.toml to nodes, nodes to keys, keys to artifacts.

Nothing of ours is imported earlier when doit starts, so here is said what an interruption (Ctrl-C) of the
imports is told as: one line, as one of any command that has begun. Python and doit load without it.
"""

import sys
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell an exception that nobody has caught; after KeyboardInterrupt Python ends by SIGINT."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\ninterrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:  # a debugger's, or a notebook's, knows better
    sys.excepthook = _tell
