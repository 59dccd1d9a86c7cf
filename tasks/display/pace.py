"""How long the rest of a run will take, by how long nodes took before and take now."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping

from tasks.assess import State
from tasks.display.events import Current, Event, Failed, Finished, Ignored, NotRun, Planned, Started

_RUNS = (State.STALE, State.WAITING)  # nodes whose actions will run, as far as is known


class Pace:
    """Listens to a run, and estimates what is left of it.

    A node that was never timed is taken for the mean of its kind; of a run with a node whose kind
    was never timed either nothing is said.
    """

    def __init__(self, event: Planned) -> None:
        self._jobs = event.jobs
        self._known: Mapping[str, float] = event.durations
        self._kinds: dict[str, list[float]] = defaultdict(list)
        for name, seconds in event.durations.items():
            self._kinds[_kind(name)].append(seconds)
        self._pending = {n for n, one in event.decided.items() if one.state in _RUNS}
        self._since: dict[str, float] = {}

    def heed(self, event: Event) -> None:
        """Take note of what begins and ends."""
        match event:
            case Started(name):
                self._since[name] = time.monotonic()
            case Finished(name, how, seconds, beside=beside):
                if how == "built" and beside is None:
                    self._kinds[_kind(name)].append(seconds)
                self._over(name)
            case Failed(name) | NotRun(name) | Current(name) | Ignored(name):
                self._over(name)
            case _:
                pass

    def _over(self, name: str) -> None:
        self._pending.discard(name)
        self._since.pop(name, None)

    def of(self, name: str) -> float | None:
        """Return the seconds that a node takes, None if nothing is known of its kind."""
        if name in self._known:
            return self._known[name]
        alike = self._kinds.get(_kind(name))
        return sum(alike) / len(alike) if alike else None

    def left_of(self, name: str) -> float | None:
        """Return the seconds that a node has left, None if nothing is known or it takes longer."""
        seconds = self.of(name)
        if seconds is None or name not in self._pending:
            return None
        left = seconds - self._elapsed(name)
        return left if left > 0 else None

    def left(self) -> float | None:
        """Return the seconds that the run has left, None if nothing is known of a node."""
        rest = []
        for name in list(self._pending):
            seconds = self.of(name)
            if seconds is None:
                return None
            rest.append(max(0.0, seconds - self._elapsed(name)))
        return max(sum(rest) / self._jobs, max(rest, default=0.0)) if rest else None

    def _elapsed(self, name: str) -> float:
        since = self._since.get(name)
        return 0.0 if since is None else time.monotonic() - since


def _kind(name: str) -> str:
    return name.partition(":")[0]
