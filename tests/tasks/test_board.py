import os
import threading

import pytest

from tasks.board import Board


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the clock of the board shows."""
    now = [1000.0]
    monkeypatch.setattr("tasks.board.time.monotonic_ns", lambda: int(now[0] * 1e9))
    return now


def test_the_rate_is_that_since_the_first_report(clock: list[float]) -> None:
    board = Board(["a", "b"])
    assert board.progress("b") is None
    board.report("b", 500, 4500)  # had been there
    clock[0] += 2.0
    board.report("b", 2500, 4500)
    found = board.progress("b")
    assert found is not None
    assert (found.done, found.total, found.rate) == (2500, 4500, 1000.0)
    assert board.progress("a") is None


def test_the_rate_begins_anew_where_work_is_lost(clock: list[float]) -> None:
    board = Board(["a"])
    board.report("a", 0, 1000)
    clock[0] += 1.0
    board.report("a", 900, 1000)
    board.report("a", 100, 1000)
    clock[0] += 2.0
    board.report("a", 300, 1000)
    found = board.progress("a")
    assert found is not None
    assert found.rate == 100.0


def test_forked_workers_share_it() -> None:
    board = Board(["a", "b"])
    child = os.fork()
    if not child:
        board.report("b", 1, 2)
        board.made("a", by="b")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    found = board.progress("b")
    assert found is not None
    assert (found.done, found.total) == (1, 2)
    assert board.is_made("a")


def test_turns() -> None:
    board = Board(["a", "b", "c"])
    assert board.take("b") is None
    assert not board.is_open("b")
    assert board.is_open("a")
    board.made("a", by="b")
    assert board.is_made("a")
    assert not board.is_open("a")
    assert board.take("a") == "b"
    assert board.is_open("c")
    assert not board.is_made("c")


def test_when_and_where_a_turn_was() -> None:
    board = Board(["a", "b"])
    assert board.turn("a") is None
    board.begin("a")
    so_far = board.turn("a")
    assert board.at_work(threading.get_native_id()) == "a"
    child = os.fork()
    if not child:
        board.begin("b")
        board.end("b")
        os._exit(0)
    os.waitpid(child, 0)
    board.end("a")
    assert board.at_work(threading.get_native_id()) is None
    first, second = board.turn("a"), board.turn("b")
    assert first is not None
    assert second is not None
    assert so_far is not None
    assert so_far.begun_ns == first.begun_ns <= so_far.ended_ns < first.ended_ns
    assert first.begun_ns < second.begun_ns <= second.ended_ns < first.ended_ns
    assert (first.thread, second.thread) == (threading.get_native_id(), child)
