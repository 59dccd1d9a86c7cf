"""Work that leaves nothing behind wherever it ends, and that may wait for a server: Ctrl-C ends it.

Python ends when all threads have, and those that wait for an answer have half a minute for each. So
the process ends without them. What they put into a store has a name only when it is whole.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def waiting() -> Iterator[None]:
    """Let signals end this process at once, with 128 and their number; ignored ones stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, _end) for signum in taken}
    try:
        yield
    finally:
        for signum, known in before.items():
            signal.signal(signum, known)


def _end(signum: int, _frame: Any) -> NoReturn:
    os.write(sys.stderr.fileno(), b"\ninterrupted\n")
    os._exit(128 + signum)
