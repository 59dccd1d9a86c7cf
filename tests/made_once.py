"""What tests share is made once in a run, by the worker of pytest that needs it first."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a directory that `make` has filled; whoever else asks waits until it has.

    `make` gets the directory empty. Tests change nothing in it.
    """
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # which has a directory of each worker
    place = run / "shared" / name
    place.parent.mkdir(exist_ok=True)
    with place.with_name(f"{name}.made").open("a") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        if not os.fstat(made.fileno()).st_size:
            shutil.rmtree(place, ignore_errors=True)  # of a worker that failed
            place.mkdir()
            make(place)
            made.write("made")
    return place
