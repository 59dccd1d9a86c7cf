"""Terminal or not: colours, and a live display of the nodes that are running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from tasks.amounts import size_text
from tasks.board import Progress

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import TaskID

ProgressOf = Callable[[str], Progress | None]  # by node name


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


def display(
    stream: TextIO, style: Style, heartbeat: float, progress_of: ProgressOf = lambda _: None
) -> Display:
    """Return a live display for a terminal, else plain lines with a sign of life now and then."""
    if style.live:
        return LiveDisplay(stream, style, progress_of)
    return PlainDisplay(stream, heartbeat, progress_of)


def progress_text(progress: Progress | None) -> str:
    """Say how far an action is, such as "1.2 of 4.7 GiB, 310 MiB/s, 12 s left"; "" if unknown."""
    if progress is None:
        return ""
    done, total = size_text(progress.done), size_text(progress.total)
    number, unit = done.split()
    text = f"{number if unit == total.split()[1] else done} of {total}"
    if progress.rate > 0 and progress.done < progress.total:
        left = duration_text((progress.total - progress.done) / progress.rate)
        text += f", {size_text(round(progress.rate))}/s, {left} left"
    return text


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units, such as "12 s", "3 min 20 s" or "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class PlainDisplay:
    """Lines, and every `heartbeat` seconds one that says what is still running."""

    def __init__(
        self, stream: TextIO, heartbeat: float, progress_of: ProgressOf = lambda _: None
    ) -> None:
        self._progress_of = progress_of
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
            if running := self.running():
                self.print(f"[{self._done}/{self._total}] still running: {', '.join(running)}")

    def running(self) -> list[str]:
        """Say of each running node for how long it runs, and how far it is."""
        with self._lock:
            now = time.monotonic()
            since = {name: duration_text(now - started) for name, started in self._running.items()}
        return [
            f"{name} {took}"
            + (f" ({text})" if (text := progress_text(self._progress_of(name))) else "")
            for name, took in since.items()
        ]


class LiveDisplay:
    """A bar over all nodes and a line for each running one, redrawn in place by rich."""

    def __init__(self, stream: TextIO, style: Style, progress_of: ProgressOf) -> None:
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
        far = TextColumn("{task.fields[far]}", markup=False)
        self._parts = Progress(TextColumn("  "), TimeElapsedColumn(), name, far)
        self._shown = Group(self._whole, self._parts)
        self._progress_of = progress_of
        self._all: TaskID | None = None
        self._running: dict[str, TaskID] = {}
        self._lock = threading.Lock()  # of the two that hold the running nodes
        self._live = Live(
            console=self._console,
            refresh_per_second=5,
            transient=True,
            get_renderable=self._now,
        )

    def print(self, text: str) -> None:
        """Write lines of text."""
        from rich.text import Text  # noqa: PLC0415  (as above)

        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def start(self, total: int) -> None:
        """Expect `total` nodes."""
        self._all = self._whole.add_task("all nodes", total=total)

    def begin(self, name: str) -> None:
        """Show a node as running."""
        with self._lock:
            self._running[name] = self._parts.add_task(name, total=None, far="")
        self._live.start()  # only now: worker processes are forked before any node runs

    def advance(self, name: str) -> None:
        """Count a node as finished."""
        with self._lock:
            task = self._running.pop(name, None)
            if task is not None:
                self._parts.remove_task(task)
        if self._all is not None:
            self._whole.advance(self._all)

    def stop(self) -> None:
        """Leave the stream as a plain one."""
        self._live.stop()

    def _now(self) -> Group:
        """Return what is shown, with the progress of this moment."""
        with self._lock:
            for name, task in self._running.items():
                self._parts.update(task, far=progress_text(self._progress_of(name)))
        return self._shown
