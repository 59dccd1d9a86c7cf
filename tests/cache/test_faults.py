from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

import pytest

from cache import digest
from cache.action import ActionResult
from cache.errors import StoreUnavailable
from cache.faults import FaultyStore, deadly_disk, failing_disk
from cache.memory import MemoryStore
from cache.testing import StoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from cache.store import Store

KEY = digest.of_bytes(b"key")


class TestFaultyStoreWithoutFaults(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return FaultyStore(MemoryStore())


def test_chosen_operations_fail_without_effect() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, {0, 2, 3, 5, 6})
    with pytest.raises(StoreUnavailable):
        store.write(b"x")
    assert not inner.blobs
    digest = store.write(b"x")
    for operation in (lambda: store.read(digest), lambda: store.missing([digest])):
        with pytest.raises(StoreUnavailable):
            operation()
    assert store.missing([digest]) == set()
    with pytest.raises(StoreUnavailable):
        store.put_result(KEY, ActionResult({"a": digest}))
    with pytest.raises(StoreUnavailable):
        store.get_result(KEY)
    assert store.get_result(KEY) is None
    assert store.calls[:4] == ["write", "write", "read", "missing"]


def test_an_answer_can_be_lost_after_the_effect() -> None:
    inner = MemoryStore()
    with pytest.raises(StoreUnavailable, match="done"):
        FaultyStore(inner, {0}, after=True).write(b"x")
    assert inner.read(digest.of_bytes(b"x")) == b"x"


def test_the_nth_call_fails_and_no_other(tmp_path: Path) -> None:
    with failing_disk(1, error=errno.EROFS, calls=("mkdir",)) as calls:
        (tmp_path / "a").mkdir()
        with pytest.raises(OSError, match="Read-only") as caught:
            (tmp_path / "b").mkdir()
        (tmp_path / "c").mkdir()
    assert caught.value.errno == errno.EROFS
    assert calls.names == ["mkdir"] * 3
    assert calls.failed
    (tmp_path / "b").mkdir()


def test_writes_can_be_short(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    with failing_disk(short=True) as calls:
        assert os.write(descriptor, b"four") == 3
        assert os.write(descriptor, b"1") == 1
    os.close(descriptor)
    assert calls.names == ["write", "write"]


def die(path: Path) -> None:
    with deadly_disk(2, calls=("write", "fsync")):
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.fsync(descriptor)
        os.write(descriptor, b"four")
        os.write(descriptor, b"more")


def test_the_process_dies_at_the_nth_call(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=die, args=(tmp_path / "file",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"fou"
