"""GitHub Actions: annotations, groups and a step summary, beside the lines that everybody sees.

Source: "Workflow commands for GitHub Actions". A command is a line of the output that begins with
"::"; so that no message or log of a program can give one, commands are stopped for all lines but
ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path

from tasks.action_output import last_lines
from tasks.assess import State
from tasks.display.annotations import annotation, base_of, data
from tasks.display.events import Ended, Event, Failed, Finished, Planned, Warned
from tasks.display.redaction import redacted
from tasks.display.style import Style
from tasks.display.wording import failure_text, finished_words, last_line

_SUMMARY_ROWS = 300  # a summary has 1 MiB at most
_LOG_LINES = 300
_LOG_SIZE = 30_000  # characters of a failure in the summary
_PLAIN = Style(colour=False, live=False)


class GitHub:
    """Annotates a run and summarises it; `write` writes lines among those of the console."""

    def __init__(self, write: Callable[[str], None], environment: Mapping[str, str]) -> None:
        self._write = write
        self._base = base_of(environment)
        self._summary = environment.get("GITHUB_STEP_SUMMARY")
        self._token = os.urandom(16).hex()
        self._stopped = False
        self._reasons: dict[str, str] = {}
        self._rows: list[tuple[str, ...]] = []

    def heed(self, event: Event) -> None:
        """Annotate an event, or note it for the summary."""
        match event:
            case Planned():
                self._plan(event)
            case Finished(name, how, warnings=warnings):
                if how != "local":
                    self._rows.append((name, finished_words(event), self._reasons.get(name, "")))
                for text in warnings:
                    self._command(annotation("warning", text, name, self._base))
            case Failed(name):
                self._fail(event)
            case Warned(text):
                self._command(annotation("warning", text, "Olmill", self._base))
            case Ended():
                for text in event.errors:
                    self._command(annotation("error", text, "Olmill", self._base))
                self._end(event)
            case _:
                pass

    def _plan(self, event: Planned) -> None:
        self._reasons = {name: one.reason for name, one in event.decided.items()}
        todo = {n: one for n, one in event.decided.items() if one.state is not State.CURRENT}
        if todo:
            self._write(f"::stop-commands::{self._token}")
            self._stopped = True
            lines = (f"{one.state.value:8} {name}  {one.reason}" for name, one in todo.items())
            self._group("what each node needs, and why", lines)

    def _fail(self, event: Failed) -> None:
        words = f"failed after {event.seconds:.0f} s"
        self._rows.append((event.name, words, self._reasons.get(event.name, "")))
        text = event.message + (f"\nhint: {event.hint}" if event.hint else "")
        self._command(annotation("error", text, f"FAILED {event.name}", self._base))
        if event.log:
            self._group(f"log of {event.name}", last_lines(Path(event.log), _LOG_LINES))

    def _end(self, event: Ended) -> None:
        if self._stopped:
            self._write(f"::{self._token}::")
        if self._summary:
            try:
                with Path(self._summary).open("a", encoding="utf-8") as file:
                    file.write(summary(event, self._rows))
            except OSError as error:
                self._write(f"warning: no step summary: {error}")

    def _group(self, title: str, lines: Iterable[str]) -> None:
        """Write lines that are shown when their title is clicked."""
        self._command(f"::group::{data(title)}")
        for line in lines:
            self._write(redacted(line))
        self._command("::endgroup::")

    def _command(self, line: str) -> None:
        if self._stopped:
            line = f"::{self._token}::\n{line}\n::stop-commands::{self._token}"
        self._write(line)


def summary(event: Ended, rows: Iterable[tuple[str, ...]]) -> str:
    """Return what a run was, in Markdown: a table of nodes that were not here, and failures."""
    rows = list(rows)
    parts = [f"### {_cell(last_line(event, _PLAIN))}\n"]
    if rows:
        head = "| node | | reason |\n|---|---|---|"
        lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows[:_SUMMARY_ROWS]]
        more = len(rows) - len(lines)
        parts.append("\n".join([head, *lines]) + "\n")
        if more:
            parts.append(f"and {more} more\n")
    for failure in event.failures:
        text = redacted(failure_text(failure, _PLAIN))[:_LOG_SIZE]
        parts.append(f"<pre>{escape(text)}</pre>\n")
    parts += [f"<pre>{escape(redacted(error))}</pre>\n" for error in event.errors]
    if event.table:
        parts.append(f"<pre>{escape(event.table)}</pre>\n")
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    text = escape(redacted(" ".join(text.split())), quote=False)
    return re.sub(r"([\\`*_\[\]|~#:@])", lambda found: f"&#{ord(found[1])};", text)
