"""Bringing blobs to a server: what it lacks, once, whoever asks for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import pytest

from cache.digest import Digest, of_bytes
from cache.errors import CorruptBlob, RemoteUnavailable
from cache.memory import MemoryTransport
from cache.remote.store import RemoteStore
from cache.remote.supply import Supply

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

BLOBS = {of_bytes(data): data for data in (b"one", b"two", b"three")}
ONE = of_bytes(b"one")


class Slow(MemoryTransport):
    """A server that takes a blob when it is told to, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Digest] = []
        self.asked = threading.Barrier(2)
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.fails = False

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        found = super().missing(digests)
        self.asked.wait(60)  # both think that it is missing
        return found

    def send(self, digest: Digest, source: BinaryIO) -> None:
        self.sent.append(digest)
        self.begun.set()
        assert self.goes_on.wait(60)
        if self.fails:
            raise RemoteUnavailable("as asked to")
        super().send(digest, source)


def contents(missing: Collection[Digest]) -> Mapping[Digest, bytes]:
    return {digest: BLOBS[digest] for digest in missing}


def test_what_is_missing_is_brought_and_known_then() -> None:
    server = MemoryTransport()
    server.blobs[ONE] = b"one"
    supply = Supply(RemoteStore(server))
    asked: list[Digest] = []

    def watched(missing: Collection[Digest]) -> Mapping[Digest, bytes]:
        asked.extend(missing)
        return contents(missing)

    assert supply.bring(BLOBS, watched)
    assert sorted(asked) == sorted(BLOBS.keys() - {ONE})
    assert server.blobs == BLOBS
    server.blobs.clear()
    assert not supply.bring(BLOBS, watched)
    assert supply.bring(BLOBS, contents, lost=[ONE])
    assert server.blobs == {ONE: b"one"}
    supply.forget()
    assert supply.bring(BLOBS, contents)
    assert server.blobs == BLOBS


def test_a_blob_that_two_bring_is_sent_once() -> None:
    server = Slow()
    supply = Supply(RemoteStore(server))
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(supply.bring, [ONE], contents) for _ in range(2)]
        assert server.begun.wait(60)
        assert not any(one.done() for one in both)
        server.goes_on.set()
        assert [one.result() for one in both] == [True, True]
    assert server.sent == [ONE]


def test_a_failure_is_told_to_both_and_the_next_one_tries_again() -> None:
    server = Slow()
    server.fails = True
    supply = Supply(RemoteStore(server))
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(supply.bring, [ONE], contents) for _ in range(2)]
        server.goes_on.set()
        for one in both:
            with pytest.raises(RemoteUnavailable):
                one.result()
    server.fails = False
    server.asked = threading.Barrier(1)
    assert supply.bring([ONE], contents)
    assert server.blobs == {ONE: b"one"}


def test_what_came_damaged_is_brought_again() -> None:
    server = MemoryTransport()
    store = RemoteStore(server)
    supply = Supply(store)
    supply.bring([ONE], contents)
    server.blobs[ONE] = b"eno"
    with pytest.raises(CorruptBlob):
        store.read(ONE)
    assert supply.bring([ONE], contents)
    assert store.read(ONE) == b"one"


def test_a_file_of_another_content_is_an_error(tmp_path: Path) -> None:
    server = MemoryTransport()
    supply = Supply(RemoteStore(server))
    file = tmp_path / "file"
    file.write_bytes(b"other")
    with pytest.raises(CorruptBlob):
        supply.bring([ONE], lambda _: {ONE: file})
    assert not server.blobs
