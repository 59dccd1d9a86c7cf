"""The processes that this one has started, and theirs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil


def below() -> set[psutil.Process]:
    """Return the processes that this one has started, and theirs, as far as they run."""
    return alive(psutil.Process().children(recursive=True))


def alive(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Return those of some processes that have not ended."""
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


def send(processes: Iterable[psutil.Process], signum: int) -> None:
    """Send a signal to processes; those that are gone, or another user's, have no part in it."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signum)
