from __future__ import annotations

import itertools
import socket

import pytest

from cache.remote.timed_socket import TimedSocket


class Clock:
    """A clock on which a second passes whenever it is asked."""

    def __init__(self) -> None:
        self.seconds = itertools.count()

    def __call__(self) -> float:
        return float(next(self.seconds))


def test_a_slow_drip_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timed = TimedSocket(ours, 10.0, Clock())
        timed.begin(0)
        with timed.makefile("rb") as reader:
            theirs.sendall(b"x" * 100)
            for _ in range(9):
                assert reader.raw.readinto(bytearray(1)) == 1
            with pytest.raises(TimeoutError):
                reader.raw.readinto(bytearray(1))


def test_more_bytes_have_more_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timed = TimedSocket(ours, 10.0, Clock())
        timed.begin(1 << 20)
        with timed.makefile("rb") as reader:
            for _ in range(20):
                theirs.sendall(b"x")
                assert reader.read1(1) == b"x"


def test_sending_ends_too() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timed = TimedSocket(ours, 5.0, Clock())
        timed.begin(0)
        for _ in range(4):
            timed.sendall(b"x")
        with pytest.raises(TimeoutError):
            timed.sendall(b"x")


def test_silence_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timed = TimedSocket(ours, 0.01)
        timed.begin(1 << 30)
        with timed.makefile("rb") as reader, pytest.raises(TimeoutError):
            reader.read1(1)
