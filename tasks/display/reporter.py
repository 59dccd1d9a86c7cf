"""doit's reporter: makes the events of a run out of what doit and our runners call.

Everything that a person reads goes to the standard error stream, or to the file of `doit -o`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TextIO

from tasks.assess import State
from tasks.display.annotations import in_github
from tasks.display.console import Console
from tasks.display.event_log import EventLog
from tasks.display.events import (
    Current,
    Ended,
    Event,
    Failed,
    Finished,
    Ignored,
    Listener,
    NotRun,
    Planned,
    Started,
    Uploading,
    Warned,
)
from tasks.display.style import style_of
from tasks.display.trace import Trace
from tasks.session import Session


class NodeReporter:
    """doit's reporter interface, for nodes and for any other task of a dodo.py."""

    desc = "plan, progress and summary of nodes"

    def __init__(self, outstream: TextIO, options: Any) -> None:
        del options  # doit's own verbosity settings do not apply: actions print nothing
        self._out = outstream
        self._listeners: list[Listener] = []
        self._session: Session | None = None
        self._console: Console | None = None
        self._durations: Mapping[str, float] = {}
        self._states: dict[str, State] = {}
        self._counts: Counter[str] = Counter()
        self._unbuilt: set[str] = set()
        self._failures: list[Failed] = []
        self._errors: list[str] = []
        self._warned: set[str] = set()
        self._started: dict[str, float] = {}
        self._begun_ns = time.monotonic_ns()
        self._signal: int | None = None

    # --- what our runner calls

    def planned(self, session: Session, jobs: int, durations: Mapping[str, float]) -> None:
        """Announce what is going to happen: `jobs` nodes at a time, which took so many seconds."""
        self._session = session
        self._states = {name: one.state for name, one in session.decided.items()}
        self._listeners = self._choose(session)
        busy = any(state is not State.CURRENT for state in self._states.values())
        fetch = session.to_fetch() if busy else 0
        self._tell(Planned(dict(session.decided), fetch, jobs, durations))
        for text in session.workspace.shared.warnings() if busy else ():
            self.notice(text)

    def _choose(self, session: Session) -> list[Listener]:
        """Return who is to hear of the run."""
        root, board = session.workspace.root, session.board
        github = in_github(os.environ)
        style = style_of(self._out, os.environ)
        self._console = Console(self._out, style, board, annotated=github)
        listeners: list[Listener] = [self._console]
        if github:
            from tasks.display.github import GitHub  # noqa: PLC0415  (what only CI needs)

            listeners.append(GitHub(self._console.write, os.environ))
        return [*listeners, EventLog(root), Trace(root, board, self._begun_ns)]

    def notice(self, text: str) -> None:
        """Say something of the whole run, once."""
        if text in self._warned:
            return
        self._warned.add(text)
        if self._listeners:
            self._tell(Warned(text))
        else:  # nothing is planned yet
            self._out.write(f"warning: {text}\n")

    def uploading(self, results: int) -> None:
        """Say that the run ends when so many results are uploaded."""
        if results:
            self._tell(Uploading(results))

    def interrupted(self, signum: int) -> None:
        """Say that a signal ends the run."""
        self._signal = signum

    def cut_off(self, signum: int) -> None:
        """Say, from any thread, that this process ends now, by a signal."""
        del signum
        if self._console is not None:
            self._console.cut_off()

    def away(self) -> AbstractContextManager[None]:
        """Leave the terminal as it was, for as long as this lasts; from any thread."""
        return nullcontext() if self._console is None else self._console.away()

    def settled(self, durations: Mapping[str, float]) -> None:
        """Learn how long nodes took when they were built, as is known when all has run."""
        self._durations = durations

    # --- what doit calls

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        """Nothing to do: `planned` has been called."""

    def get_status(self, task: Any) -> None:
        """Nothing to say while a task is being checked."""

    def execute_task(self, task: Any) -> None:
        """Announce a node whose action may run."""
        if task.actions:
            self._started[task.name] = time.monotonic()
            self._tell(Started(task.name, self._is_restored(task.name)))

    def add_success(self, task: Any) -> None:
        """Say what came of a node."""
        if not task.actions:
            return
        values = task.values
        event = Finished(
            task.name,
            str(values.get("how", "built")),
            values.get("seconds", self._elapsed(task.name)),
            values.get("bytes", 0),
            values.get("key", ""),
            values.get("with"),
            tuple(values.get("warnings", ())),
        )
        self._counts[event.how] += 1
        if event.how in ("local", "remote"):
            self._unbuilt.add(task.name)
        self._tell(event)

    def skip_uptodate(self, task: Any) -> None:
        """Count a node that needed nothing."""
        if task.actions:
            self._counts["local"] += 1
            self._unbuilt.add(task.name)
            self._tell(Current(task.name, self._states.get(task.name) is State.CURRENT))

    def skip_ignore(self, task: Any) -> None:
        """Say that the user told doit to ignore a task."""
        if task.actions:
            self._counts["ignored"] += 1
            self._tell(Ignored(task.name))

    def add_failure(self, task: Any, fail: Any) -> None:
        """Say that a node failed, and why; a node that never ran counts as not run."""
        if fail.get_name() == "UnmetDependency":
            if task.actions:
                self._tell(NotRun(task.name, tuple(fail.message.split())))
            return
        event = getattr(fail, "failure", None) or Failed(task.name, fail.get_msg().strip(), 0.0)
        event = replace(event, seconds=self._elapsed(task.name))
        self._failures.append(event)
        self._counts["failed"] += 1
        self._tell(event)

    def runtime_error(self, msg: str) -> None:
        """Keep an error of doit's own for the end."""
        self._errors.append(msg)

    def cleanup_error(self, exception: Any) -> None:
        """Keep an error of a teardown action for the end."""
        self._errors.append(exception.get_msg())

    def teardown_task(self, task: Any) -> None:
        """Nothing to say."""

    def complete_run(self) -> None:
        """Say how the run ended."""
        session = self._session
        if session is None:
            self._out.write("".join(f"error: {error}\n" for error in self._errors))
            return
        total = len(session.decided)
        self._counts["not run"] = total - sum(self._counts.values())
        self._tell(
            Ended(
                total,
                {word: count for word, count in self._counts.items() if count},
                (time.monotonic_ns() - self._begun_ns) / 1e9,
                self._saved(),
                tuple(self._failures),
                tuple(self._errors),
                self._table(session),
                self._signal,
            )
        )

    def _saved(self) -> float | None:
        """Return how long the nodes that did not run took when they did, as far as is known."""
        known = self._durations
        found = [known[name] for name in self._unbuilt if name in known]
        return sum(found) if found else None

    def _table(self, session: Session) -> str:
        """Return the release table, if it has changed and is whole."""
        changed = self._counts["built"] or any(
            s is not State.CURRENT for s in self._states.values()
        )
        if not changed or self._failures or self._signal or session.matrix is None:
            return ""
        from tasks.display.table import release_table  # noqa: PLC0415  (a no-op shows none)

        return release_table(session, set(session.decided))

    def _is_restored(self, name: str) -> bool:
        """Whether a node's result was there before the run."""
        session = self._session
        known = session.decided.get(name) if session else None
        if session is None or known is None or session.board.is_made(name):
            return False
        return known.state in (State.CACHED, State.REMOTE)

    def _elapsed(self, name: str) -> float:
        return time.monotonic() - self._started.get(name, time.monotonic())

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.heed(event)
