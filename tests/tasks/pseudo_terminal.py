"""A pseudo-terminal with a program in it, and the screen that a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from select import select
from types import TracebackType
from typing import Self

import psutil
import pyte

PATIENCE = 120.0  # seconds, on a busy machine


class Terminal:
    """Runs a command in a terminal of so many columns and rows, as the leader of its session."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        columns: int,
        rows: int = 24,
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._end, inside = pty.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            # only the child can take the terminal as its own, and this process has no threads
            preexec_fn=_take_terminal,  # noqa: PLW1509  (as said)
        )
        os.close(inside)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:  # a test has failed
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self.process.kill()
        self.process.wait()
        os.close(self._end)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int) -> None:
        """Make the terminal wider or narrower; the program gets a SIGWINCH."""
        self._set_size(columns, self.screen.lines)
        self.screen.resize(columns=columns)

    def type(self, keys: bytes) -> None:
        """Type keys, such as Ctrl-C, b"\\x03"."""
        os.write(self._end, keys)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self.process.send_signal(signum)

    def until(self, seen: Callable[[Terminal], bool]) -> None:
        """Wait until something is seen."""
        end = time.monotonic() + PATIENCE
        while not seen(self):
            assert time.monotonic() < end, f"not seen:\n{self.text()}"
            assert self._read(), f"it ended first:\n{self.text()}"

    def wait(self) -> int:
        """Wait for the end of the program; returns its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, f"it has not ended:\n{self.text()}"
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Show what is written next; returns whether there was anything."""
        ready, _, _ = select([self._end], [], [], PATIENCE)
        assert ready, f"nothing for {PATIENCE} s:\n{self.text()}"
        try:
            part = os.read(self._end, 1 << 16)
        except OSError:  # the last one who could write to it has ended
            return False
        self.raw += part
        self._stream.feed(part)
        return bool(part)

    def lines(self) -> list[str]:
        """What can be read, with what has scrolled off the top, without trailing emptiness."""
        old = [
            "".join(line[column].data for column in range(self.screen.columns))
            for line in self.screen.history.top
        ]
        text = "\n".join(line.rstrip() for line in [*old, *self.screen.display])
        return text.rstrip().splitlines()

    def text(self) -> str:
        """What can be read, as one text."""
        return "\n".join(self.lines())


def _take_terminal() -> None:
    """Lead the terminal's session, and hear SIGHUP: pytest may have been started under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
