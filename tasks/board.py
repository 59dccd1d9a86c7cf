"""What the processes of one run tell each other while it goes on, in memory that they share.

Nothing of it is kept, and no output or key depends on it: how far each action is, which nodes have
had their turn, when and where, and which were made while another node's action ran.
"""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

# of one node, int64 each
(
    _STATE,
    _DONE,
    _TOTAL,
    _SINCE_NS,
    _SINCE_DONE,
    _STAGE,
    _BEGUN_NS,
    _ENDED_NS,
    _THREAD,
    _CELLS,
) = range(10)
_STAGES = ("", "queued", "executing")
_OPEN, _TAKEN, _MADE = range(3)  # states; _MADE + row of the node whose action did it


@dataclass(frozen=True)
class Progress:
    """How far an action is: bytes done of `total`, and bytes per second (0 if not known yet).

    Of one that a cluster runs, `stage` says that it is "queued" or "executing".
    """

    done: int
    total: int
    rate: float
    stage: str = ""


@dataclass(frozen=True)
class Turn:
    """When a node's turn began and ended, by the monotonic clock, and in which thread.

    The id of a thread is that of the system: the main thread of a process has that of the process.
    """

    begun_ns: int
    ended_ns: int
    thread: int


class Board:
    """One row for each node of a run. Made before workers are forked; threads may share it.

    Each cell is written whole and by one worker at a time; readers may be a moment behind.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._rows = {name: row for row, name in enumerate(self._names)}
        size = max(1, len(self._names)) * _CELLS * 8
        self._cells = memoryview(mmap.mmap(-1, size)).cast("q")

    def report(self, name: str, done: int, total: int) -> None:
        """Say that `done` bytes of `total` are through the action of a node."""
        start = self._start(name)
        if not self._cells[start + _SINCE_NS] or done < self._cells[start + _DONE]:
            self._cells[start + _SINCE_DONE] = done
            self._cells[start + _SINCE_NS] = time.monotonic_ns()
        self._cells[start + _DONE] = done
        self._cells[start + _TOTAL] = total

    def stage(self, name: str, stage: str) -> None:
        """Say that a node's action is "queued" or "executing" on a cluster."""
        self._cells[self._start(name) + _STAGE] = _STAGES.index(stage)

    def progress(self, name: str) -> Progress | None:
        """Return how far a node's action is, None if it does not say."""
        start = self._start(name)
        _, done, total, since_ns, since_done, stage = self._cells[start : start + _BEGUN_NS]
        if not total:
            return Progress(0, 0, 0.0, _STAGES[stage]) if stage else None
        seconds = (time.monotonic_ns() - since_ns) / 1e9
        return Progress(done, total, (done - since_done) / seconds if seconds > 0 else 0.0)

    def begin(self, name: str) -> None:
        """Say that this thread begins the turn of a node."""
        start = self._start(name)
        self._cells[start + _THREAD] = threading.get_native_id()
        self._cells[start + _ENDED_NS] = 0
        self._cells[start + _BEGUN_NS] = time.monotonic_ns()

    def end(self, name: str) -> None:
        """Say that the turn of a node is over."""
        self._cells[self._start(name) + _ENDED_NS] = time.monotonic_ns()

    def turn(self, name: str) -> Turn | None:
        """Return a node's turn, None until it has begun; one that is not over ends now."""
        start = self._start(name)
        begun, ended, thread = self._cells[start + _BEGUN_NS : start + _CELLS]
        return Turn(begun, ended or time.monotonic_ns(), thread) if begun else None

    def at_work(self, thread: int) -> str | None:
        """Return the node whose turn a thread has begun and not ended."""
        for name in self._names:
            start = self._start(name)
            begun, ended, where = self._cells[start + _BEGUN_NS : start + _CELLS]
            if begun and not ended and where == thread:
                return name
        return None

    def take(self, name: str) -> str | None:
        """Take up a node; return the node whose action has made it in this run, if any."""
        start = self._start(name)
        state = self._cells[start + _STATE]
        self._cells[start + _STATE] = max(state, _TAKEN)
        return self._names[state - _MADE] if state >= _MADE else None

    def is_open(self, name: str) -> bool:
        """Return whether a node has neither had its turn nor been made with another."""
        return self._cells[self._start(name) + _STATE] == _OPEN

    def is_made(self, name: str) -> bool:
        """Return whether another node's action has made a node in this run."""
        return self._cells[self._start(name) + _STATE] >= _MADE

    def made(self, name: str, by: str) -> None:
        """Say that the action of the node `by` has made another node, whose turn is to come."""
        self._cells[self._start(name) + _STATE] = _MADE + self._rows[by]

    def _start(self, name: str) -> int:
        return self._rows[name] * _CELLS
