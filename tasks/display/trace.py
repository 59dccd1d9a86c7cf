"""A picture in time of the last build, `build/trace.json`: opens in Perfetto (ui.perfetto.dev).

Trace Event format: a complete event ("X") for each node, on the lane of the thread that its action
ran in, whose id is that of the process where each worker is one; instants ("i") for warnings and
failures. All lanes are threads of one process, which is one row to unfold. Times are microseconds since the
run began. Source: "Trace Event Format", Google, the JSON object format.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.assess import State
from tasks.board import Board, Turn
from tasks.display.events import (
    Current,
    Ended,
    Event,
    Failed,
    Finished,
    Planned,
    Started,
    Uploading,
    Warned,
)
from tasks.display.redaction import redacted
from tasks.workspace import BUILD

TRACE = "trace.json"


class Trace:
    """Collects the events of one run and writes the trace when it ends, if anything was done.

    `board` knows when the turn of each node began and ended, and where; `begun_ns` is when the run
    began, by the monotonic clock.
    """

    def __init__(self, root: Path, board: Board, begun_ns: int) -> None:
        self._path = root / BUILD / TRACE
        self._board = board
        self._begun = begun_ns
        self._pid, self._main = os.getpid(), threading.get_native_id()
        self._events: list[dict[str, Any]] = []
        self._lanes = {self._main: "doit"}
        self._reasons: dict[str, str] = {}
        self._uploading: int | None = None
        self._done = False
        self._started: dict[str, None] = {}  # nodes of which nobody has said yet how they ended

    def heed(self, event: Event) -> None:
        """Draw an event, or write the trace."""
        match event:
            case Planned(decided):
                self._done = any(one.state is not State.CURRENT for one in decided.values())
                self._reasons = {name: one.reason for name, one in decided.items()}
                self._main_span("decide", self._begun, {"nodes": len(decided)})
            case Started(name):
                self._started[name] = None
            case Finished(name, how, _, size, key):
                args = {"key": key, "how": how, "bytes": size, "reason": self._reasons.get(name)}
                self._node(name, args)
            case Current(name):
                self._started.pop(name, None)
            case Failed(name, message):
                self._node(name, {"how": "failed", "message": redacted(message)})
                self._instant(f"FAILED {name}", message)
            case Warned(text):
                self._instant("warning", text)
            case Uploading():
                self._uploading = time.monotonic_ns()
            case Ended():
                self._end()
            case _:
                pass

    def _end(self) -> None:
        for name in [*self._started]:  # interrupted
            self._node(name, {"how": "not finished"})
        if self._uploading is not None:
            self._main_span("upload", self._uploading, {})
        with suppress(OSError):  # a full disk: the run says so itself
            self._write()

    def _main_span(self, name: str, since_ns: int, args: dict[str, Any]) -> None:
        turn = Turn(since_ns, time.monotonic_ns(), self._main)
        self._complete(name, "run", turn, args)

    def _node(self, name: str, args: dict[str, Any]) -> None:
        self._started.pop(name, None)
        turn = self._board.turn(name)
        if turn is not None:
            self._lanes.setdefault(turn.thread, f"worker {len(self._lanes)}")
            self._complete(name, name.partition(":")[0], turn, args)

    def _complete(self, name: str, category: str, turn: Turn, args: dict[str, Any]) -> None:
        begun, ended = self._microseconds(turn.begun_ns), self._microseconds(turn.ended_ns)
        self._events.append(
            {
                "name": name,
                "cat": category,
                "ph": "X",
                "ts": begun,
                "dur": ended - begun,
                "pid": self._pid,
                "tid": turn.thread,
                "args": args,
            }
        )

    def _instant(self, name: str, text: str) -> None:
        moment = self._microseconds(time.monotonic_ns())
        args = {"message": redacted(text)}
        self._events.append(
            {"name": name, "cat": "run", "ph": "i", "ts": moment, "s": "g"}
            | {"pid": self._pid, "tid": self._main, "args": args}
        )

    def _microseconds(self, moment_ns: int) -> int:
        return (moment_ns - self._begun) // 1000

    def _metadata(self) -> Iterator[dict[str, Any]]:
        """Name the process and its lanes, and keep them in the order in which they came."""
        names: list[tuple[str, int, dict[str, Any]]] = [
            ("process_name", self._main, {"name": "doit"})
        ]
        for number, (thread, name) in enumerate(self._lanes.items()):
            names.append(("thread_name", thread, {"name": name}))
            names.append(("thread_sort_index", thread, {"sort_index": number}))
        for about, thread, args in names:
            yield {"name": about, "ph": "M", "pid": self._pid, "tid": thread, "args": args}

    def _write(self) -> None:
        """Replace the trace of the build before, at once."""
        if not self._done:
            return
        events = sorted(self._events, key=lambda event: (event["ts"], event["name"]))
        lines = ",\n".join(json.dumps(event) for event in [*self._metadata(), *events])
        text = f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'
        temporary = self._path.with_name(f"{TRACE}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self._path)
