"""What actions and their libraries write by themselves goes to a log, never into what is shown.

Native code writes to the file descriptors of the process, past Python's streams, so those are
turned aside.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_STREAMS = (1, 2)  # standard output and error
_LAST = 1 << 16  # bytes that are read of a long log


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Let the standard output and error of this process, and of what it starts, go to a file.

    The file begins empty, and is removed if it stays so. All threads of the process share it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    except OSError:  # a full disk: whoever writes what matters will say so
        yield
        return
    kept = [os.dup(stream) for stream in _STREAMS]
    try:
        _redirect([log, log])
        yield
    finally:
        _redirect(kept)
        for descriptor in (log, *kept):
            os.close(descriptor)
        if not path.stat().st_size:
            path.unlink()


def _redirect(to: list[int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for stream_number, descriptor in zip(_STREAMS, to, strict=True):
        os.dup2(descriptor, stream_number)


def apart(stream: TextIO) -> TextIO:
    """Return a stream to where `stream` writes now, which `written_to` does not turn aside."""
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return stream
    if number not in _STREAMS:
        return stream
    return os.fdopen(os.dup(number), "w", encoding=stream.encoding, errors="backslashreplace")


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """Return the last lines that a log has, none if there is no log."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LAST))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line.rstrip() for line in text.splitlines()[-count:])
