"""On a terminal: lines about the run that change in place, below all other output.

The cursor rests, hidden, where the lines begin. A terminal that is made narrower wraps what is
below the cursor and keeps the cursor with its text, so the next drawing clears from the cursor on
and nothing of the old lines stays, however they were wrapped. All that is shown at a time goes out
in one write, and is cut off if the terminal has become narrower on the way. A job in the background
(Ctrl-Z, bg) has lines to say, but none that change: the terminal is its shell's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import StringIO
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.text import Text

from tasks.display.amounts import duration_text
from tasks.display.pace import Pace
from tasks.display.plain_display import PATIENCE, ProgressOf
from tasks.display.style import Style
from tasks.display.terminal import in_foreground, terminal_size
from tasks.display.wording import progress_words

REFRESH = 0.2  # seconds between drawings
BAR = 30  # cells of the bar at most
_LEAST_BAR = 8
_LEAST_NAME = 18  # cells that a node's name has before anything else is left out
_SHOW, _HIDE, _CLEAR = "\033[?25h", "\033[?25l", "\r\033[J"
_WRAP, _CUT = "\033[?7h", "\033[?7l"  # what becomes of lines that are too long: DECAWM


class LiveDisplay:
    """A bar over all nodes and a line for each running one, redrawn in place."""

    def __init__(
        self,
        stream: TextIO,
        style: Style,
        pace: Pace | None = None,
        progress_of: ProgressOf = lambda _: None,
        refresh: float = REFRESH,
    ) -> None:
        self._stream = stream
        self._style = style
        self._pace = pace
        self._progress_of = progress_of
        self._every = refresh
        self.size_of = partial(terminal_size, stream)
        self.may_draw = partial(in_foreground, stream)
        self._drawn = False  # whether there are lines that change, and the cursor is hidden
        self._running: dict[str, float] = {}
        self._done = self._total = 0
        self._begun = time.monotonic()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._is_cut = False  # whether the last line is written

    def print(self, text: str) -> None:
        """Write lines of text above what changes."""
        with self._lock:
            self._draw(text + "\n")

    def start(self, total: int, done: int) -> None:
        """Expect `total` nodes, of which so many need nothing."""
        self._total, self._done = total, done

    def begin(self, name: str) -> None:
        """Show a node as running."""
        with self._lock:
            self._running[name] = time.monotonic()
            if self._thread is None:  # only now: worker processes are forked before any node runs
                self._thread = threading.Thread(target=self._refresh, daemon=True)
                self._thread.start()
            self._draw("")

    def advance(self, name: str) -> None:
        """Count a node as finished."""
        with self._lock:
            self._running.pop(name, None)
            self._done += 1

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            with self._lock:
                self._thread = None
                self._erase()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Leave the terminal as it was, for as long as this lasts."""
        taken = self._lock.acquire(timeout=PATIENCE)  # a terminal may take nothing (Ctrl-S)
        try:
            if taken:
                self._erase()
            yield
        finally:
            if taken:
                self._draw("")
                self._lock.release()

    def cut_off(self, text: str) -> None:
        """Leave the terminal as it was with a last line, whoever else is just writing to it."""
        self._over.set()
        taken = self._lock.acquire(timeout=PATIENCE)
        self._is_cut = True
        clear, show = (_CLEAR, _SHOW) if self._drawn else ("", "")
        os.write(self._stream.fileno(), f"{clear}{text}\n{show}".encode())
        if taken:
            self._lock.release()

    def _refresh(self) -> None:
        while not self._over.wait(self._every):
            with self._lock:
                self._draw("")

    def _draw(self, above: str) -> None:
        """Clear what changes, write lines that stay, and what changes below them."""
        if self._thread is None or self._over.is_set():
            self._write(above)
            return
        if not self.may_draw():
            self._erase()
            self._write(above)
            return
        lines = self.lines(*self.size_of())
        back = f"\r\033[{len(lines) - 1}A" if len(lines) > 1 else "\r"
        self._drawn = True
        self._write(_HIDE + _CLEAR + above + _CUT + "\n".join(lines) + _WRAP + back)

    def _erase(self) -> None:
        """Remove what changes, and show the cursor."""
        if self._drawn:
            self._drawn = False
            self._write(_CLEAR + _SHOW)

    def _write(self, text: str) -> None:
        if not self._is_cut:
            self._stream.write(text)
            self._stream.flush()

    def lines(self, columns: int, rows: int) -> list[str]:
        """Return what changes, for a terminal of so many columns and rows."""
        width, now = max(1, columns - 1), time.monotonic()  # text in the last column may wrap
        lines = [self._whole_line(width, now)]
        room = max(1, rows - 2)
        running = list(self._running.items())
        shown = running if len(running) <= room else running[: room - 1]
        lines += [self._node_line(name, now - since, width) for name, since in shown]
        if len(shown) < len(running):
            lines.append(Text(f"  and {len(running) - len(shown)} more", no_wrap=True))
        return [self._painted(line, width) for line in lines]

    def _whole_line(self, width: int, now: float) -> Text:
        words = [f"{self._done}/{self._total}", duration_text(now - self._begun)]
        left = self._pace.left() if self._pace else None
        if left is not None and left >= 1:
            words.append(f"about {duration_text(left)} left")
        while cell_len("  ".join(words)) > width and len(words) > 1:
            words.pop(1)
        text = Text("  ".join(words), no_wrap=True)
        cells = min(BAR, width - text.cell_len - 1)
        if cells < _LEAST_BAR:
            return text
        bar = ProgressBar(
            total=max(1, self._total),
            completed=self._done,
            width=cells,
            style="bright_black",
            complete_style="green",
            finished_style="green",
        )
        console = self._console(cells)
        drawn = Text("", no_wrap=True)
        for segment in console.render(bar):
            drawn.append(segment.text, segment.style)
        drawn.pad_right(cells - drawn.cell_len)
        return drawn.append(" ").append_text(text)

    def _node_line(self, name: str, elapsed: float, width: int) -> Text:
        words = progress_words(self._progress_of(name))
        left = self._pace.left_of(name) if self._pace and not words else None
        if left is not None and left >= 1:
            words = [f"about {duration_text(left)} left"]
        head = f"{duration_text(elapsed):>6}  "
        while words and width - cell_len(head) - cell_len(_tail(words)) < min(
            cell_len(name), _LEAST_NAME
        ):
            words.pop(1 if len(words) > 2 else 0)  # the rate first, the time left last
        room = width - cell_len(head) - cell_len(_tail(words))
        text = Text(head, "dim", no_wrap=True)
        return text.append(_shortened(name, room), "not dim").append(_tail(words), "dim cyan")

    def _painted(self, line: Text, width: int) -> str:
        """Return a line as what a terminal understands."""
        console = self._console(width)
        line.truncate(width, overflow="ellipsis")
        with console.capture() as captured:
            console.print(line, end="", soft_wrap=True)
        return captured.get()

    def _console(self, width: int) -> Console:
        """Return what turns styles into what a terminal understands."""
        return Console(
            file=StringIO(),
            width=width,
            force_terminal=True,
            color_system="standard",
            no_color=not self._style.colour,
            highlight=False,
        )


def _tail(words: list[str]) -> str:
    return "  " + ", ".join(words) if words else ""


def _shortened(name: str, cells: int) -> str:
    """Return a name without its middle, if it is too long: its ends tell it from others."""
    if cell_len(name) <= cells:
        return name
    if cells < 3:
        return set_cell_size(name, max(0, cells))
    front = (cells - 1) // 2
    back = cells - 1 - front
    return f"{name[:front]}…{name[-back:]}"
