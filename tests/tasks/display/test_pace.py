"""How long the rest of a run takes."""

import pytest

from tasks.assess import Assessment, State
from tasks.display.events import Current, Failed, Finished, Planned, Started
from tasks.display.pace import Pace
from tasks.node import Node


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("tasks.display.pace.time.monotonic", lambda: now[0])
    return now


def planned(states: dict[str, State], durations: dict[str, float], jobs: int = 1) -> Planned:
    node = Node("a:b", "action", "{}", (), "build")
    decided = {name: Assessment(node, state) for name, state in states.items()}
    return Planned(decided, 0, jobs, durations)


STATES = {
    "convert:m": State.STALE,
    "compile:a": State.WAITING,
    "compile:b": State.WAITING,
    "package:a": State.CACHED,
}


def test_a_node_that_was_never_timed_is_like_others_of_its_kind(clock: list[float]) -> None:
    pace = Pace(planned(STATES, {"convert:m": 10.0, "compile:a": 4.0, "compile:old": 6.0}))
    assert pace.left() == 10 + 4 + 5
    pace.heed(Started("convert:m", known=False))
    clock[0] += 3
    assert pace.left_of("convert:m") == 7
    assert pace.left() == 7 + 4 + 5
    clock[0] += 9
    assert pace.left_of("convert:m") is None
    assert pace.left() == 4 + 5


def test_of_a_kind_that_was_never_timed_nothing_is_said_until_one_was(clock: list[float]) -> None:
    pace = Pace(planned(STATES, {"convert:m": 10.0}))
    assert pace.left() is None
    pace.heed(Started("compile:a", known=False))
    clock[0] += 2
    pace.heed(Finished("compile:a", "built", 2.0, 1, ""))
    assert pace.left() == 10 + 2


def test_what_is_over_or_need_not_run_takes_no_time() -> None:
    pace = Pace(planned(STATES, dict.fromkeys(STATES, 5.0)))
    pace.heed(Failed("convert:m", "no"))
    pace.heed(Current("compile:a", planned=False))
    assert pace.left() == 5
    pace.heed(Finished("compile:b", "local", 0.0, 1, ""))
    assert pace.left() is None


def test_nodes_at_a_time() -> None:
    durations = {"convert:m": 10.0, "compile:a": 2.0, "compile:b": 2.0}
    assert Pace(planned(STATES, durations, jobs=4)).left() == 10
    assert Pace(planned(STATES, durations | {"compile:a": 30.0}, jobs=2)).left() == 30
