"""The machine-readable log of runs, `build/log.jsonl`: a JSON object for each event (docs/log.md).

Runs are appended, each event by one write to the end of the file, so several processes may log at
a time. A file that has grown large is put aside when a run begins.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.assess import Assessment, State
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
from tasks.display.redaction import redacted
from tasks.workspace import BUILD

LOG = "log.jsonl"
OLD_LOG = "log.1.jsonl"
LARGE = 8 << 20  # bytes of a log that is put aside
VERSION = 1  # of the events' form

_Line = dict[str, Any]


class EventLog:
    """Writes the events of one run. Every line says the time, in seconds since 1970, and the run."""

    def __init__(self, root: Path) -> None:
        self._path = root / BUILD / LOG
        self._run = os.urandom(8).hex()
        self._file: int | None = None

    def heed(self, event: Event) -> None:
        """Append what the log has of an event."""
        with suppress(OSError):  # a full disk: the run says so itself
            if isinstance(event, Planned):
                self._open()
            if self._file is not None:
                self._write(_FORMS[type(event)](event))
        if isinstance(event, Ended) and self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if path.stat().st_size > LARGE:
                path.replace(path.with_name(OLD_LOG))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _write(self, lines: list[_Line]) -> None:
        head = {"v": VERSION, "run": self._run, "time": round(time.time(), 3)}
        text = "".join(
            json.dumps({**head, **_told(line)}, ensure_ascii=False) + "\n" for line in lines
        )
        if text and self._file is not None:
            os.write(self._file, text.encode("utf-8", "backslashreplace"))


def _planned(event: Planned) -> list[_Line]:
    """Say what is going to be done, and why of each node that needs something."""
    changed = {n: one for n, one in event.decided.items() if one.state is not State.CURRENT}
    return [_run_started(event), *(_decided(name, one) for name, one in changed.items())]


def _run_started(event: Planned) -> _Line:
    states = Counter(assessed.state.value for assessed in event.decided.values())
    return {
        "event": "run_started",
        "pid": os.getpid(),
        "nodes": len(event.decided),
        "states": {state.value: states[state.value] for state in State},
        "fetch_bytes": event.fetch,
        "jobs": event.jobs,
    }


def _decided(name: str, assessed: Assessment) -> _Line:
    return {
        "event": "decided",
        "node": name,
        "state": assessed.state.value,
        "reason": assessed.reason,
        "key": assessed.keyed.key.hash if assessed.keyed else None,
    }


def _current(event: Current) -> list[_Line]:
    """Say that a node needs nothing after all; where that was known from the start, nothing."""
    if event.planned:
        return []
    reason = "what it reads came out as before"
    head = {"event": "decided", "node": event.name}
    return [{**head, "state": "current", "reason": reason, "key": None}]


def _started(event: Started) -> list[_Line]:
    return [{"event": "started", "node": event.name}]


def _finished(event: Finished) -> list[_Line]:
    return [
        {
            "event": "finished",
            "node": event.name,
            "how": event.how,
            "seconds": round(event.seconds, 3),
            "bytes": event.size,
            "key": event.key,
            "with": event.beside,
            "warnings": list(event.warnings),
        }
    ]


def _failed(event: Failed) -> list[_Line]:
    return [
        {
            "event": "failed",
            "node": event.name,
            "seconds": round(event.seconds, 3),
            "message": event.message,
            "hint": event.hint,
            "log": event.log,
        }
    ]


def _run_ended(event: Ended) -> list[_Line]:
    bad = event.failures or event.errors
    return [
        {
            "event": "run_ended",
            "result": "interrupted" if event.signal else "failed" if bad else "succeeded",
            "seconds": round(event.seconds, 3),
            "counts": dict(event.counts),
            "saved_seconds": None if event.saved is None else round(event.saved, 3),
            "errors": list(event.errors),
        }
    ]


def _not_run(event: NotRun) -> list[_Line]:
    return [{"event": "not_run", "node": event.name, "because": list(event.because)}]


def _ignored(event: Ignored) -> list[_Line]:
    return [{"event": "ignored", "node": event.name}]


def _warned(event: Warned) -> list[_Line]:
    return [{"event": "warning", "message": event.text}]


def _uploading(event: Uploading) -> list[_Line]:
    return [{"event": "uploading", "results": event.results}]


_FORMS: dict[type, Callable[[Any], list[_Line]]] = {
    Planned: _planned,
    Current: _current,
    Started: _started,
    Finished: _finished,
    Failed: _failed,
    NotRun: _not_run,
    Ignored: _ignored,
    Warned: _warned,
    Uploading: _uploading,
    Ended: _run_ended,
}


def _told(value: Any) -> Any:
    """Leave secrets out of all texts."""
    match value:
        case str():
            return redacted(value)
        case list():
            return [_told(one) for one in value]
        case dict():
            return {key: _told(one) for key, one in value.items()}
        case _:
            return value


def last_run(root: Path) -> list[_Line]:
    """Events of the run of the project `root` that was the last to begin, in order."""
    lines = (root / BUILD / LOG).read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    begun = [event["run"] for event in events if event["event"] == "run_started"]
    return [event for event in events if event["run"] == begun[-1]]


def executed(root: Path) -> list[str]:
    """Names of the nodes whose action ran in the last run of the project `root`, in order."""
    return [
        event["node"]
        for event in last_run(root)
        if event["event"] == "failed" or (event["event"] == "finished" and event["how"] == "built")
    ]
