"""The same for many, in a few threads: for work that mostly waits."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16


def pool(threads: int) -> ThreadPoolExecutor:
    """Return so many threads. What makes them is loaded now: a run with nothing to do needs none."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (and with it logging)

    return ThreadPoolExecutor(threads)


def each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return the function's value for each item, in order.

    Raises what it raised for one of the items; items not begun by then are left out.
    """
    threads = min(THREADS, len(items))
    if threads < 2:
        return [function(item) for item in items]
    found: dict[int, R] = {}
    rest = iter(enumerate(items))  # shared: whoever is free takes the next one

    def work() -> None:
        for number, item in rest:
            found[number] = function(item)

    with pool(threads) as workers:
        working = [workers.submit(work) for _ in range(threads)]
        try:
            for one in working:
                one.result()
        except BaseException:
            deque(rest, maxlen=0)
            raise
    return [found[number] for number in range(len(items))]
