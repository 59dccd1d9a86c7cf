"""What a person sees of a run: the plan, each node as it starts and ends, failures, one last line.

The only file that prints during a run. Everything goes to the standard error stream, or to the
file of `doit -o`; a run in which nothing had to be done prints its last line and nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tasks.amounts import size_text
from tasks.assess import State
from tasks.session import Session
from tasks.table import release_table
from tasks.terminal import Display, PlainDisplay, Style, display, style_of
from tasks.workspace import BUILD

HEARTBEAT = 30.0  # seconds between signs of life where there is no terminal
LOG = "log.jsonl"


@dataclass(frozen=True)
class Failure:
    """A node that failed: the message, and seconds until it did."""

    name: str
    text: str
    seconds: float


class NodeReporter:
    """doit's reporter interface, for nodes and for any other task of a dodo.py."""

    desc = "plan, progress and summary of nodes"

    def __init__(self, outstream: TextIO, options: Any) -> None:
        del options  # doit's own verbosity settings do not apply: actions print nothing
        self._out = outstream
        self._style: Style = style_of(self._out, os.environ)
        self._display: Display = PlainDisplay(self._out, HEARTBEAT)
        self._session: Session | None = None
        self._counts: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._errors: list[str] = []
        self._warnings: list[str] = []
        self._notices: set[str] = set()
        self._started: dict[str, float] = {}
        self._begun = time.monotonic()
        self._total = 0
        self._log: TextIO | None = None

    # --- what our runner calls

    def planned(self, session: Session) -> None:
        """Announce what is going to happen, unless nothing is."""
        self._session = session
        states = Counter(assessed.state for assessed in session.decided.values())
        self._total = len(session.decided)
        log = session.workspace.root / BUILD / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("w", encoding="utf-8")
        if states[State.CURRENT] == self._total:
            return
        for text in session.workspace.shared.warnings():
            self.notice(text)
        cached = states[State.CURRENT] + states[State.CACHED]
        size = session.to_fetch()
        remote = f"{states[State.REMOTE]} remote" + (f" ({size_text(size)})" if size else "")
        build = f"{states[State.STALE] + states[State.BROKEN]} to build"
        waiting = states[State.WAITING]
        more = f", {waiting} after those" if waiting else ""
        self._display = display(self._out, self._style, HEARTBEAT, session.board.progress)
        self._write(f"plan: {self._total} nodes: {cached} cached, {remote}, {build}{more}")
        self._display.start(self._total)

    def notice(self, text: str) -> None:
        """Say something of the whole run, once."""
        if text not in self._notices:
            self._notices.add(text)
            self._write(f"{self._style.warn('warning:')} {text}")

    def uploading(self, results: int) -> None:
        """Say that the run ends when so many results are uploaded."""
        if results:
            self._write(f"uploading {results} result{'s' if results > 1 else ''}")

    # --- what doit calls

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        """Nothing to do: `planned` has been called."""

    def get_status(self, task: Any) -> None:
        """Nothing to say while a task is being checked."""

    def execute_task(self, task: Any) -> None:
        """Announce a node whose action may run."""
        if not task.actions:
            return
        self._started[task.name] = time.monotonic()
        self._display.begin(task.name)
        if not self._is_restored(task.name) and not self._style.live:
            self._write(f"start  {task.name}")

    def add_success(self, task: Any) -> None:
        """Say what came of a node."""
        if not task.actions:
            return
        how = str(task.values.get("how", "built"))
        seconds = task.values.get("seconds", self._elapsed(task.name))
        self._counts[how] += 1
        self._record(task.name, how, seconds)
        self._display.advance(task.name)
        beside = task.values.get("with")
        took = f" ({f'with {beside}' if beside else f'{seconds:.1f} s'})" if how == "built" else ""
        self._write(f"{self._style.good(how.ljust(6))} {task.name}{took}")
        for warning in task.values.get("warnings", ()):
            self._warnings.append(f"{task.name}: {warning}")
            self._write(f"{self._style.warn('warning:')} {task.name}: {warning}")

    def skip_uptodate(self, task: Any) -> None:
        """Count a node that needed nothing."""
        if task.actions:
            self._counts["local"] += 1
            self._display.advance(task.name)

    def skip_ignore(self, task: Any) -> None:
        """Say that the user told doit to ignore a task."""
        self._counts["ignored"] += 1
        self._write(f"ignored {task.name}")

    def add_failure(self, task: Any, fail: Any) -> None:
        """Say that a node failed, and why; a node that never ran counts as not run."""
        self._display.advance(task.name)
        if fail.get_name() == "UnmetDependency":
            if task.actions:
                self._counts["not run"] += 1
                self._record(task.name, "not run", 0.0)
            return
        text = fail.get_msg().strip()
        failure = Failure(task.name, text, self._elapsed(task.name))
        self._failures.append(failure)
        self._counts["failed"] += 1
        self._record(task.name, "failed", failure.seconds)
        self._write(self._failure(failure))

    def runtime_error(self, msg: str) -> None:
        """Keep an error of doit's own for the end."""
        self._errors.append(msg)

    def cleanup_error(self, exception: Any) -> None:
        """Keep an error of a teardown action for the end."""
        self._errors.append(exception.get_msg())

    def teardown_task(self, task: Any) -> None:
        """Nothing to say."""

    def complete_run(self) -> None:
        """Repeat the failures, show what is in dist/, and close with the counts."""
        self._display.stop()
        if self._log is not None:
            self._log.close()
        if len(self._failures) + bool(self._counts["not run"]) > 1:
            self._write("")
            for failure in self._failures:
                self._write(self._failure(failure))
        for error in self._errors:
            self._write(f"error: {error}")
        session = self._session
        if session is None:
            return
        changed = self._counts["built"] or any(
            a.state is not State.CURRENT for a in session.decided.values()
        )
        if changed and not self._failures and session.matrix is not None:
            table = release_table(session, set(session.decided))
            if table:
                self._write("\n" + table + "\n")
        self._write(self._last_line())

    # --- how it is said

    def _last_line(self) -> str:
        counts = self._counts
        finished = sum(counts[word] for word in ("local", "remote", "built", "failed", "ignored"))
        not_run = self._total - finished
        words = [
            f"{counts['local']} local",
            f"{counts['remote']} remote",
            f"{counts['built']} built",
        ]
        if counts["ignored"]:
            words.append(f"{counts['ignored']} ignored")
        if counts["failed"]:
            words.append(self._style.bad(f"{counts['failed']} failed"))
        if not_run > 0:
            words.append(f"{not_run} not run")
        took = time.monotonic() - self._begun
        return f"{self._total} nodes: {', '.join(words)} ({took:.1f} s)"

    def _failure(self, failure: Failure) -> str:
        head = f"{self._style.bad('FAILED')} {failure.name} ({failure.seconds:.0f} s)"
        body = "\n".join(f"  {line}" for line in failure.text.splitlines())
        return f"{head}\n{body}\n  again: doit {failure.name}"

    def _is_restored(self, name: str) -> bool:
        """Whether a node's result was there before the run."""
        session = self._session
        known = session.decided.get(name) if session else None
        if session is None or known is None or session.board.is_made(name):
            return False
        return known.state in (State.CACHED, State.REMOTE)

    def _elapsed(self, name: str) -> float:
        return time.monotonic() - self._started.get(name, time.monotonic())

    def _write(self, text: str) -> None:
        self._display.print(text)

    def _record(self, name: str, how: str, seconds: float) -> None:
        if self._log is None:
            return
        known = self._session.decided.get(name) if self._session else None
        event = {
            "node": name,
            "how": how,
            "seconds": round(seconds, 3),
            "reason": known.reason if known else "",
        }
        self._log.write(json.dumps(event) + "\n")
        self._log.flush()


def executed(root: Path) -> list[str]:
    """Names of the nodes whose action ran in the last run of the project `root`, in order."""
    lines = (root / BUILD / LOG).read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [event["node"] for event in events if event["how"] in ("built", "failed")]
