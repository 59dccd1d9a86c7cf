"""Terminal or not: colours, and a live display of the nodes that are running."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID


@dataclass(frozen=True)
class Style:
    """How to write to a stream: with colours, with a live display, or plainly."""

    colour: bool
    live: bool

    def good(self, text: str) -> str:
        """Mark what went well."""
        return self._paint("32", text)

    def warn(self, text: str) -> str:
        """Mark what deserves a look."""
        return self._paint("33", text)

    def bad(self, text: str) -> str:
        """Mark what failed."""
        return self._paint("1;31", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text


def style_of(stream: TextIO, environment: Mapping[str, str]) -> Style:
    """Style for a stream: NO_COLOR, FORCE_COLOR and TERM=dumb are respected.

    Source: no-color.org, force-color.org.
    """
    live = stream.isatty() and environment.get("TERM", "") not in ("", "dumb")
    colour = live
    if environment.get("NO_COLOR"):
        colour = False
    elif environment.get("FORCE_COLOR"):
        colour = True
    return Style(colour, live)


class Display(Protocol):
    """What is shown while nodes run. All output of a run goes through `print`, whole lines."""

    def print(self, text: str) -> None:
        """Write lines of text."""

    def start(self, total: int) -> None:
        """Expect `total` nodes."""

    def begin(self, name: str) -> None:
        """Show a node as running."""

    def advance(self, name: str) -> None:
        """Count a node as finished."""

    def stop(self) -> None:
        """Leave the stream as a plain one."""


def display(stream: TextIO, style: Style, heartbeat: float) -> Display:
    """Return a live display for a terminal, else plain lines with a sign of life now and then."""
    return LiveDisplay(stream, style) if style.live else PlainDisplay(stream, heartbeat)


class PlainDisplay:
    """Lines, and every `heartbeat` seconds one that says what is still running."""

    def __init__(self, stream: TextIO, heartbeat: float) -> None:
        self._stream = stream
        self._heartbeat = heartbeat
        self._running: dict[str, float] = {}
        self._done = self._total = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def print(self, text: str) -> None:
        """Write lines of text."""
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()

    def start(self, total: int) -> None:
        """Expect `total` nodes."""
        self._total = total

    def begin(self, name: str) -> None:
        """Show a node as running."""
        with self._lock:
            self._running[name] = time.monotonic()
        if self._thread is None:  # only now: worker processes are forked before any node runs
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()

    def advance(self, name: str) -> None:
        """Count a node as finished."""
        with self._lock:
            self._running.pop(name, None)
            self._done += 1

    def stop(self) -> None:
        """Leave the stream as a plain one."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _tick(self) -> None:
        while not self._stop.wait(self._heartbeat):
            with self._lock:
                now = time.monotonic()
                running = [f"{name} {now - since:.0f} s" for name, since in self._running.items()]
            if running:
                self.print(f"[{self._done}/{self._total}] still running: {', '.join(running)}")


class LiveDisplay:
    """A bar over all nodes and a line for each running one, redrawn in place by rich."""

    def __init__(self, stream: TextIO, style: Style) -> None:
        from rich.console import Console, Group  # noqa: PLC0415  (60 ms that a no-op must not spend)
        from rich.live import Live  # noqa: PLC0415  (as above)
        from rich.progress import (  # noqa: PLC0415  (as above)
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        name = TextColumn("{task.description}", markup=False)
        self._console = Console(file=stream, force_terminal=True, no_color=not style.colour)
        self._whole = Progress(name, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._parts = Progress(TextColumn("  "), TimeElapsedColumn(), name)
        shown = Group(self._whole, self._parts)
        self._live = Live(shown, console=self._console, refresh_per_second=5, transient=True)
        self._all: TaskID | None = None
        self._running: dict[str, TaskID] = {}

    def print(self, text: str) -> None:
        """Write lines of text."""
        from rich.text import Text  # noqa: PLC0415  (as above)

        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def start(self, total: int) -> None:
        """Expect `total` nodes."""
        self._all = self._whole.add_task("all nodes", total=total)

    def begin(self, name: str) -> None:
        """Show a node as running."""
        self._running[name] = self._parts.add_task(name, total=None)
        self._live.start()  # only now: worker processes are forked before any node runs

    def advance(self, name: str) -> None:
        """Count a node as finished."""
        task = self._running.pop(name, None)
        if task is not None:
            self._parts.remove_task(task)
        if self._all is not None:
            self._whole.advance(self._all)

    def stop(self) -> None:
        """Leave the stream as a plain one."""
        self._live.stop()
