"""Processes of others: whether they run still, and waiting for their end."""

import contextlib
import os
from collections.abc import Iterable
from select import select

import psutil


def statuses(processes: Iterable[psutil.Process]) -> set[str]:
    """Return what those that have not ended do; zombies have, whether or not anybody asks for them."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.status())
    return found - {psutil.STATUS_ZOMBIE}


def wait_for_end(process: psutil.Process) -> None:
    """Wait for a process that is not ours: one that was killed goes on until the system has time."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if process.is_running():  # else the number is another's now
                select([descriptor], [], [], 60)
        finally:
            os.close(descriptor)
