"""Ctrl-Z: a run that is stopped gives its terminal back, and goes on where it was.

The kernel stops the processes of the job by itself, but for one that wants to do something before:
this one, whose display has hidden the cursor.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import psutil

from tasks.processes import below, send

Away = Callable[[], AbstractContextManager[None]]  # while it lasts, the terminal is as it was


def suspend(away: Away) -> None:
    """Stop this process and all below it until this one is continued (SIGCONT).

    Nothing happens where nobody could continue it, as with the kernel's own SIGTSTP.
    Programs that left the job, such as a browser in a session of its own, are stopped and continued with it.
    """
    if not _has_shell():
        return
    with away():
        started = below()
        send(started, signal.SIGSTOP)
        # to this thread: sent to the process, it would stop another one first, while this one went on
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        send(started, signal.SIGCONT)


def _has_shell() -> bool:
    """Whether this job belongs to somebody who can continue it: its group is no orphan.

    Source: POSIX.1-2017, 3.264 (Orphaned Process Group), of the processes above this one.
    """
    group, session = os.getpgrp(), os.getsid(0)
    with suppress(OSError, psutil.Error):
        for process in psutil.Process().parents():
            if os.getpgid(process.pid) != group:
                return os.getsid(process.pid) == session
    return False
