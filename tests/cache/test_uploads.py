"""Sending in the background: all of it, together where it waits together, once or with an error."""

from __future__ import annotations

import threading

import pytest

from cache.uploads import Uploads


def test_what_waits_goes_together() -> None:
    goes_on = threading.Event()
    begun = threading.Semaphore(0)
    sent: list[list[int]] = []

    def send(items: list[int]) -> None:
        sent.append(items)
        begun.release()
        goes_on.wait()

    uploads = Uploads(send)
    for number in range(4):
        uploads.add(number)
        begun.acquire()
    for number in range(4, 50):
        uploads.add(number)
    assert uploads.pending() == 50
    goes_on.set()
    uploads.finish()
    assert uploads.pending() == 0
    assert sent == [[0], [1], [2], [3], list(range(4, 50))]


def test_what_has_not_begun_is_abandoned() -> None:
    begun = threading.Semaphore(0)
    sent: list[int] = []

    def send(items: list[int]) -> None:
        begun.release()
        assert items == [5] or uploads.abandoned.wait(60)
        sent.extend(items)

    uploads = Uploads(send)
    for number in range(4):
        uploads.add(number)
        begun.acquire()
    uploads.add(4)
    uploads.finish(abandon=True)
    assert sorted(sent) == [0, 1, 2, 3]
    uploads.add(5)
    uploads.finish()
    assert sent[4:] == [5]


def test_a_failure_is_told_at_the_end() -> None:
    def send(items: list[int]) -> None:
        if 0 in items:
            raise ValueError("zero")

    uploads = Uploads(send)
    uploads.add(0)
    uploads.add(1)
    with pytest.raises(ValueError, match="zero"):
        uploads.finish()
    assert uploads.pending() == 0
