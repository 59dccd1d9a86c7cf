"""How large a terminal is, who may draw on it, and what becomes of a table that does not fit into it."""

from __future__ import annotations

import os
import re
import textwrap
from typing import TextIO


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Size of the terminal that a stream writes to, 80 by 24 where it says none."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns = rows = 0
    return os.terminal_size((columns or 80, rows or 24))


def in_foreground(stream: TextIO) -> bool:
    """Whether this process may draw on the terminal that a stream writes to.

    Not while it is a job in the background, whose terminal is its shell's.
    """
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # not the terminal of this session, so without jobs
        return True


def narrowed(table: str, columns: int) -> str:
    """Return an aligned table as it is if it fits, else each row as a list of what it says.

    Columns begin where the names in the first line begin, two spaces after the one before.
    """
    lines = table.splitlines()
    if max(map(len, lines), default=0) <= columns:
        return table
    names = list(re.finditer(r"\S+(?: \S+)*", lines[0]))
    ends = [name.start() for name in names[1:]] + [None]
    shown = []
    for line in lines[1:]:
        cells = [line[name.start() : end].strip() for name, end in zip(names, ends, strict=True)]
        words = [f"{name[0]} {cell}" for name, cell in zip(names, cells, strict=True) if cell]
        shown.append(textwrap.fill(", ".join(words), columns, subsequent_indent="  "))
    return "\n".join(shown)


def folded(line: str, columns: int) -> str:
    """Return a line as lines that fit, broken between words."""
    if len(line) <= columns:
        return line
    return textwrap.fill(
        line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
