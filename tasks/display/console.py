"""What a person sees of a run: the plan, each node as it starts and ends, failures, one last line.

A run in which nothing had to be done shows its last line and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol, TextIO

from tasks.assess import State
from tasks.board import Board
from tasks.display.events import (
    Current,
    Ended,
    Event,
    Failed,
    Finished,
    Ignored,
    NotRun,
    Planned,
    Started,
    Uploading,
    Warned,
)
from tasks.display.pace import Pace
from tasks.display.plain_display import PlainDisplay
from tasks.display.style import Style
from tasks.display.terminal import folded, narrowed, terminal_size
from tasks.display.wording import (
    INTERRUPTED,
    ending,
    failure_text,
    finished_line,
    plan_line,
    uploading_line,
)


class Display(Protocol):
    """What is shown while nodes run. All output of a run goes through `print`, whole lines."""

    def print(self, text: str) -> None:
        """Write lines of text."""

    def start(self, total: int, done: int) -> None:
        """Expect `total` nodes, of which so many need nothing."""

    def begin(self, name: str) -> None:
        """Show a node as running."""

    def advance(self, name: str) -> None:
        """Count a node as finished."""

    def stop(self) -> None:
        """Leave the stream as it was."""

    def away(self) -> AbstractContextManager[None]:
        """Leave the stream as it was, for as long as this lasts."""

    def cut_off(self, text: str) -> None:
        """Leave the stream as it was with a last line, whoever else is just writing to it."""


class Console:
    """Tells a person of the events of a run.

    `annotated` leaves warnings to somebody else who tells the same person.
    """

    def __init__(self, stream: TextIO, style: Style, board: Board, *, annotated: bool) -> None:
        self._stream = stream
        self._style = style
        self._board = board
        self._annotated = annotated
        self._display: Display = PlainDisplay(stream)
        self._pace: Pace | None = None
        self._failed_last = False  # whether the last that was said is a failure

    def write(self, text: str) -> None:
        """Write lines of text where they do not disturb what is shown."""
        self._display.print(text)

    def heed(self, event: Event) -> None:
        """Show an event."""
        if self._pace is not None:
            self._pace.heed(event)
        match event:
            case Planned():
                self._plan(event)
            case Started(name):
                self._display.begin(name)
            case Current(planned=True):
                pass
            case Current(name) | Finished(name) | Failed(name) | NotRun(name) | Ignored(name):
                self._display.advance(name)
            case Ended():
                self._display.stop()
            case _:
                pass
        for text in self._words(event):
            self.write(text)
            self._failed_last = isinstance(event, Failed)

    def _words(self, event: Event) -> Iterator[str]:
        """Return what there is to say of an event."""
        style = self._style
        match event:
            case Planned() if self._pace is not None:
                yield self._fitting(plan_line(event, self._pace.left()))
            case Started(name, known) if not known and not style.live:
                yield f"start  {name}"
            case Finished(name):
                yield finished_line(event, style)
                yield from self._warnings(f"{name}: {text}" for text in event.warnings)
            case Ignored(name):
                yield f"ignored {name}"
            case Failed():
                yield failure_text(event, style)
            case Warned(text):
                yield from self._warnings([text])
            case Uploading(results):
                yield uploading_line(results)
            case Ended():
                yield from self._ending(event)
            case _:
                pass

    def _ending(self, event: Ended) -> Iterator[str]:
        if self._style.live and event.table:
            event = replace(event, table=narrowed(event.table, terminal_size(self._stream).columns))
        repeat = len(event.failures) > 1 or not self._failed_last
        yield from map(self._fitting, ending(event, self._style, repeat=repeat))

    def _fitting(self, text: str) -> str:
        """Return a line with breaks between words where a terminal would break it anywhere."""
        if not self._style.live or "\n" in text:
            return text
        return folded(text, terminal_size(self._stream).columns)

    def _warnings(self, texts: Iterable[str]) -> Iterator[str]:
        if not self._annotated:
            yield from (f"{self._style.warn('warning:')} {text}" for text in texts)

    def away(self) -> AbstractContextManager[None]:
        """Leave the stream as it was, for as long as this lasts."""
        return self._display.away()

    def cut_off(self) -> None:
        """Leave the stream as it was: the process ends now."""
        self._display.cut_off(INTERRUPTED)

    def _plan(self, event: Planned) -> None:
        current = sum(one.state is State.CURRENT for one in event.decided.values())
        if current == len(event.decided):
            return
        self._pace = Pace(event)
        if self._style.live:
            from tasks.display.live_display import LiveDisplay  # noqa: PLC0415  (rich, for this alone)

            self._display = LiveDisplay(self._stream, self._style, self._pace, self._board.progress)
        else:
            self._display = PlainDisplay(self._stream, progress_of=self._board.progress)
        self._display.start(len(event.decided), current)
