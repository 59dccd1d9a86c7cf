"""The end of a run that is told to stop: everything that it has started ends with it.

The first SIGINT (Ctrl-C) or SIGTERM raises `Interrupted` in the main thread, which unwinds and
keeps what is finished, and asks all processes below this one to end. The second, or the time that
is granted, ends everything at once.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 5.0  # seconds in which a run may come to its end by itself
_TOLD = 2.0  # seconds in which processes may end that were asked to
_POLL = 0.02
_OVER = b"\0"  # no signal has this number


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
        while alive := _alive(self._below) | _below():
            if time.monotonic() > until:
                _send(alive, signal.SIGKILL)
            time.sleep(_POLL)

    def stop(self, signum: int, _frame: Any) -> None:
        """Take the first signal; as a handler."""
        if self._signum is None:
            self._signum = signum
            self._below = _below()
            _send(self._below, signal.SIGTERM)
            raise Interrupted(signum)

    def end_at_once(self, signum: int) -> NoReturn:
        """End this process and all below it."""
        with suppress(Exception):  # whatever is wrong with the terminal: the end is the end
            self._last(signum)
        _send(self._below | _below(), signal.SIGKILL)
        os._exit(128 + signum)


@contextmanager
def interruptible(last: Callable[[int], None]) -> Iterator[Interruption]:
    """Let signals end what is done meanwhile, in the main thread; others get none."""
    found = Interruption(last)
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    with _handled(found.stop), _watched(found.end_at_once):
        yield found


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back, while workers are forked that are not ready for them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def let_worker_be_interrupted() -> None:
    """In a worker forked under `held`: the first signal stops it, its parent sees to the rest."""
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_with(parent: int) -> None:
    """End this process and all below it when `parent` ends: killed builds leave nothing running."""
    while os.getppid() == parent:
        time.sleep(0.5)
    _send(_below(), signal.SIGKILL)
    os._exit(1)


def _below() -> set[psutil.Process]:
    """Return the processes that this one has started, and theirs, as far as they run."""
    return _alive(psutil.Process().children(recursive=True))


def _alive(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


def _send(processes: Iterable[psutil.Process], signum: int) -> None:
    """Send a signal to processes; those that are gone, or another user's, have no part in it."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signum)


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let a function take signals, but for those that are ignored, as under nohup."""
    taken = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in taken}
    try:
        yield
    finally:
        for signum, known in before.items():
            signal.signal(signum, known)


@contextmanager
def _watched(at_once: Callable[[int], NoReturn]) -> Iterator[None]:
    """Call a function, from a thread, at the second signal, or when time is up after the first.

    Handlers run between two steps of the main thread, which may be deep in a compiler. Signals are
    seen here when they arrive.
    """
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    before = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(receiving, at_once), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(sending, _OVER)
        thread.join()
        os.close(sending)
        os.close(receiving)


def _watch(receiving: int, at_once: Callable[[int], NoReturn]) -> None:
    first: int | None = None
    while True:
        ready, _, _ = select.select([receiving], [], [], None if first is None else GRACE)
        arrived = os.read(receiving, 1) if ready else b""
        if arrived == _OVER:
            return
        if arrived and arrived[0] not in SIGNALS:
            continue
        if first is not None:
            at_once(first)
        first = arrived[0]
