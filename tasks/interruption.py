"""The end of a run that is told to stop: everything that it has started ends with it.

The first SIGINT (Ctrl-C) or SIGTERM raises `Interrupted` in the main thread, which unwinds and
keeps what is finished, and asks all processes below this one to end. The second, or the time that
is granted, ends everything at once. Ctrl-Z (SIGTSTP) stops the run until it is continued.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

import psutil

from tasks.processes import alive, below, send
from tasks.suspension import Away, suspend

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 5.0  # seconds in which a run may come to its end by itself
_TOLD = 2.0  # seconds in which processes may end that were asked to
_POLL = 0.02
_OVER = b"\0"  # no signal has this number

Handler = Callable[[int, Any], None]


class Interrupted(KeyboardInterrupt):
    """A signal ends the run; its number is the argument."""

    @property
    def signum(self) -> int:
        """The signal."""
        return int(self.args[0])


class Interruption:
    """Whether a run has been told to stop.

    `last` is called before this process ends at once, from another thread, with the signal.
    """

    def __init__(self, last: Callable[[int], None]) -> None:
        self._last = last
        self._signum: int | None = None
        self._below: set[psutil.Process] = set()

    def check(self) -> None:
        """Raise Interrupted if the run was told to stop: compilers may have swallowed it."""
        if self._signum is not None:
            raise Interrupted(self._signum)

    def end_below(self) -> None:
        """Wait until the processes have ended that were asked to, then end those that have not.

        They are not waited for as children: whoever started them still learns how they ended.
        """
        until = time.monotonic() + _TOLD
        while running := alive(self._below) | below():
            if time.monotonic() > until:
                send(running, signal.SIGKILL)
            time.sleep(_POLL)

    def stop(self, signum: int, _frame: Any) -> None:
        """Take the first signal; as a handler."""
        if self._signum is None:
            self._signum = signum
            self._below = below()
            send(self._below, signal.SIGTERM)
            raise Interrupted(signum)

    def end_at_once(self, signum: int) -> NoReturn:
        """End this process and all below it."""
        with suppress(Exception):  # whatever is wrong with the terminal: the end is the end
            self._last(signum)
        send(self._below | below(), signal.SIGKILL)
        os._exit(128 + signum)


@contextmanager
def interruptible(last: Callable[[int], None], away: Away) -> Iterator[Interruption]:
    """Let signals end or stop what is done meanwhile, in the main thread; others get none.

    `away` is entered while the process is stopped, from another thread.
    """
    found = Interruption(last)
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    handlers = {**dict.fromkeys(SIGNALS, found.stop), signal.SIGTSTP: _seen}
    with _handled(handlers), _watched(found.end_at_once, partial(suspend, away)):
        yield found


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back, while workers are forked that are not ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*SIGNALS, signal.SIGTSTP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_worker_be_interrupted() -> None:
    """In a worker forked under `held`: the first signal ends it, its parent sees to the rest."""
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGTSTP) is _seen:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [*SIGNALS, signal.SIGTSTP])


def end_with(parent: int) -> None:
    """End this process and all below it when `parent` ends: killed builds leave nothing running."""
    while os.getppid() == parent:
        time.sleep(0.5)
    send(below(), signal.SIGKILL)
    os._exit(1)


def _seen(_signum: int, _frame: Any) -> None:
    """Leave a signal to the thread that watches; as a handler."""


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Let functions take signals, but for those that are ignored, as under nohup."""
    taken = [one for one in handlers if signal.getsignal(one) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handlers[signum]) for signum in taken}
    try:
        yield
    finally:
        for signum, known in before.items():
            signal.signal(signum, known)


@contextmanager
def _watched(at_once: Callable[[int], NoReturn], stop: Callable[[], None]) -> Iterator[None]:
    """Call `at_once`, from a thread, at the second signal, or when time is up after the first.

    Before the first, call `stop` at each SIGTSTP. Handlers run between two steps of the main thread,
    which may be deep in a compiler. Signals are seen here when they arrive.
    """
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    before = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(receiving, at_once, stop), daemon=True)
    thread.start()
    # That thread alone takes SIGTSTP. A program that is just being started would otherwise stop before it
    # is one, and with it this process, all threads of which wait for it, but not for its shell.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        signal.set_wakeup_fd(before)
        os.write(sending, _OVER)
        thread.join()
        os.close(sending)
        os.close(receiving)


def _watch(receiving: int, at_once: Callable[[int], NoReturn], stop: Callable[[], None]) -> None:
    first: int | None = None
    while True:
        ready, _, _ = select.select([receiving], [], [], None if first is None else GRACE)
        arrived = os.read(receiving, 1) if ready else b""
        if arrived == _OVER:
            return
        if arrived and arrived[0] == signal.SIGTSTP and first is None:
            stop()
        if arrived and arrived[0] not in SIGNALS:
            continue
        if first is not None:
            at_once(first)
        first = arrived[0]
