"""Where there is no terminal: lines, and now and then one that says what is still running."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from tasks.board import Progress
from tasks.display.amounts import duration_text
from tasks.display.wording import progress_text

HEARTBEAT = 30.0  # seconds between signs of life
PATIENCE = 1.0  # seconds that whoever writes is waited for before the run is stopped or cut off

ProgressOf = Callable[[str], Progress | None]  # by node name


class PlainDisplay:
    """Lines, and every `heartbeat` seconds one that says what is still running."""

    def __init__(
        self,
        stream: TextIO,
        heartbeat: float = HEARTBEAT,
        progress_of: ProgressOf = lambda _: None,
    ) -> None:
        self._progress_of = progress_of
        self._stream = stream
        self._heartbeat = heartbeat
        self._running: dict[str, float] = {}
        self._done = self._total = 0
        self._lock = threading.Lock()
        self._is_cut = False  # whether the last line is written
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def print(self, text: str) -> None:
        """Write lines of text."""
        with self._lock:
            if not self._is_cut:
                self._stream.write(text + "\n")
                self._stream.flush()

    def start(self, total: int, done: int) -> None:
        """Expect `total` nodes, of which so many need nothing."""
        self._total, self._done = total, done

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
        """Leave the stream as it was."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def away(self) -> AbstractContextManager[None]:
        """Nothing to do: a stream of lines is left as it was."""
        return nullcontext()

    def cut_off(self, text: str) -> None:
        """Leave the stream as it was with a last line, whoever else is just writing to it."""
        taken = self._lock.acquire(timeout=PATIENCE)
        self._is_cut = True
        os.write(self._stream.fileno(), f"{text}\n".encode())
        if taken:
            self._lock.release()

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
