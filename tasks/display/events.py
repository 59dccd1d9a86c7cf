"""What happens in a run, as data: one stream of events, and whoever listens to it.

The reporter makes the events; the console, GitHub Actions, the log and the trace each listen. An
event holds facts and no wording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tasks.assess import Assessment


@dataclass(frozen=True)
class Planned:
    """The run begins: what is known of each node, bytes to fetch, how many nodes run at a time.

    `durations` are the seconds that the action of a node took when it last ran, where recorded.
    """

    decided: Mapping[str, Assessment]
    fetch: int
    jobs: int
    durations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """A node's turn begins; `known` if its result was there before the run."""

    name: str
    known: bool


@dataclass(frozen=True)
class Finished:
    """A node has its outputs: how, seconds its action ran, bytes of its outputs, its key.

    `beside` is the node whose action made this one too.
    """

    name: str
    how: str
    seconds: float
    size: int
    key: str
    beside: str | None = None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Current:
    """A node needs nothing; `planned` says whether that was known when the run began."""

    name: str
    planned: bool


@dataclass(frozen=True)
class Ignored:
    """The user has told doit to leave a node alone."""

    name: str


@dataclass(frozen=True)
class Failed:
    """A node failed, after so many seconds.

    `message` says what is wrong and `hint` the way out, `output` is the end of what the action
    wrote, `log` the file with all of it, relative to the project, `again` the command that runs
    this node again.
    """

    name: str
    message: str
    seconds: float = 0.0
    hint: str | None = None
    output: Sequence[str] = ()
    log: str | None = None
    again: str | None = None


@dataclass(frozen=True)
class NotRun:
    """A node did not run, because of others that failed or are left alone."""

    name: str
    because: Sequence[str]


@dataclass(frozen=True)
class Warned:
    """Something about the whole run deserves a look."""

    text: str


@dataclass(frozen=True)
class Uploading:
    """The run ends when so many results are in the remote store."""

    results: int


@dataclass(frozen=True)
class Ended:
    """The run is over: nodes by what came of them, and everything that went wrong.

    `saved` are the seconds that the nodes which did not run once took, None where nothing of it is
    recorded; `table` is the release table if it has changed; `signal` what interrupted the run.
    """

    total: int
    counts: Mapping[str, int]
    seconds: float
    saved: float | None = None
    failures: Sequence[Failed] = ()
    errors: Sequence[str] = ()
    table: str = ""
    signal: int | None = None


Event = (
    Planned | Started | Finished | Current | Ignored | Failed | NotRun | Warned | Uploading | Ended
)


class Listener(Protocol):
    """Whoever wants to know; called from the thread that runs doit, one event at a time."""

    def heed(self, event: Event) -> None:
        """Take note of an event."""
