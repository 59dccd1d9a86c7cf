"""What a collection takes and what it leaves, and that it may be cut off anywhere."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import StoreUnavailable
from cache.faults import deadly_disk, failing_disk, hooked_disk
from cache.local.collection import Limits, collect
from cache.local.store import LocalStore, guarded
from cache.local.survey import survey
from tests.cache.local_stores import (
    FORK,
    blob_file,
    leftovers,
    memory_directory,
    overwrite,
    result_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cache.digest import Digest

DAY_NS = 86_400 * 10**9
NOW_NS = 20_000 * DAY_NS
ALL = Limits(size=0)


def nothing(project: Path) -> set[str]:
    """Return what a project without receipts needs."""
    assert project.is_dir()
    return set()


def made(store: LocalStore, name: str, days: int, *contents: bytes) -> Digest:
    """Store a result that was last used so many days ago; return its key."""
    key = digests.of_bytes(name.encode())
    outputs = {f"out-{number}": store.write(content) for number, content in enumerate(contents)}
    store.put_result(key, ActionResult(outputs))
    used_ns = NOW_NS - days * DAY_NS
    os.utime(result_file(store.root, key), ns=(used_ns, used_ns))
    return key


def size_of(store: LocalStore) -> int:
    return survey(store.root).size


def test_what_was_not_used_for_longest_goes_first(store: LocalStore) -> None:
    keys = [made(store, str(days), days, bytes([days]) * 1000) for days in (3, 1, 2)]
    gone = collect(store.root, nothing, Limits(size=size_of(store) - 1), NOW_NS)
    assert list(gone.results) == [keys[0].hash]
    assert [digest.size for digest in gone.blobs] == [1000]
    assert [store.get_result(key) is None for key in keys] == [True, False, False]


def test_what_is_older_than_the_limit_goes(store: LocalStore) -> None:
    keys = [made(store, str(days), days, bytes([days])) for days in (31, 30, 1)]
    gone = collect(store.root, nothing, Limits(age=30 * 86_400), NOW_NS)
    assert list(gone.results) == [keys[0].hash]


def test_a_result_that_a_build_finds_is_used(store: LocalStore) -> None:
    key = made(store, "a", 100, b"a")
    assert LocalStore(store.root).get_result(key) is not None
    assert result_file(store.root, key).stat().st_mtime_ns == NOW_NS - 100 * DAY_NS
    lacking = made(store, "lacking", 100, b"lacking")
    blob_file(store.root, digests.of_bytes(b"lacking")).unlink()
    with store.lease():
        assert store.get_results([lacking, key]).keys() == {key}
    assert result_file(store.root, key).stat().st_mtime_ns != NOW_NS - 100 * DAY_NS
    assert result_file(store.root, lacking).stat().st_mtime_ns == NOW_NS - 100 * DAY_NS


def test_without_limits_only_what_is_of_no_use_goes(store: LocalStore) -> None:
    whole = made(store, "whole", 1000, b"whole")
    garbled = made(store, "garbled", 0, b"garbled")
    lacking = made(store, "lacking", 0, b"here", b"gone")
    damaged = made(store, "damaged", 0, b"damaged")
    free = store.write(b"free")
    overwrite(result_file(store.root, garbled), b"x" * 100)
    overwrite(blob_file(store.root, digests.of_bytes(b"gone")), None)
    overwrite(blob_file(store.root, digests.of_bytes(b"damaged")), b"DAMAGED")
    assert store.get_result(damaged) is None
    gone = collect(store.root, nothing, Limits(), NOW_NS)
    assert set(gone.results) == {garbled.hash, lacking.hash, damaged.hash}
    assert set(gone.blobs) == {free, *map(digests.of_bytes, (b"garbled", b"here"))}
    assert list(gone.corrupt.values()) == [len(b"DAMAGED")]
    assert survey(store.root).corrupt == {}
    assert store.get_result(whole) is not None
    assert collect(store.root, nothing, Limits(), NOW_NS).size == 0


def test_what_a_project_needs_stays_with_its_result(store: LocalStore, tmp_path: Path) -> None:
    needed = made(store, "needed", 100, b"one", b"two")
    half = made(store, "half", 1, b"two", b"three")
    for name in ("here", "removed"):
        (tmp_path / name).mkdir()
        store.register(tmp_path / name)
    (tmp_path / "removed").rmdir()
    asked = []

    def needs(project: Path) -> set[str]:
        asked.append(project)
        return {digests.of_bytes(content).hash for content in (b"one", b"two")}

    gone = collect(store.root, needs, ALL, NOW_NS)
    assert set(asked) == {tmp_path / "here"}
    assert list(gone.results) == [half.hash]
    assert list(gone.blobs) == [digests.of_bytes(b"three")]
    assert store.get_result(needed) is not None
    assert len(list((store.root / "v1/projects").iterdir())) == 1


def test_a_blob_of_two_results_stays_for_the_other(store: LocalStore) -> None:
    made(store, "old", 9, b"shared", b"old" * 500)
    new = made(store, "new", 1, b"shared")
    collect(store.root, nothing, Limits(size=size_of(store) - 1), NOW_NS)
    assert store.get_result(new) is not None


def test_there_may_be_nothing(tmp_path: Path) -> None:
    assert collect(tmp_path / "cache", nothing, ALL, NOW_NS).size == 0
    assert not (tmp_path / "cache").exists()


@contextlib.contextmanager
def when_builds_may_go_on(*turns: Callable[[], object]) -> Iterator[None]:
    """Do something each time that a collection has had the store for itself."""
    rest = iter(turns)
    original = guarded.gate

    @contextlib.contextmanager
    def gate(path: str, *, alone: bool = False) -> Iterator[None]:
        with original(path, alone=alone):
            yield
        if alone:
            next(rest, lambda: None)()

    with patch("cache.local.guarded.gate", gate):
        yield
    assert next(rest, None) is None


@pytest.mark.parametrize("dies", [False, True])
def test_a_build_may_end_while_a_collection_goes_on(store: LocalStore, *, dies: bool) -> None:
    """What it took to be there stays for whatever it made of it."""
    made(store, "old", 9, b"precious")
    other = LocalStore(store.root)
    key = digests.of_bytes(b"new")
    lease = contextlib.ExitStack()

    def build() -> None:
        lease.enter_context(other.lease())
        other.put_result(key, ActionResult({"out": other.write(b"precious")}))
        if dies:
            os.dup2(os.open(os.devnull, os.O_RDONLY), other._lease._file or -1)
        else:
            lease.close()
        with LocalStore(store.root).lease():  # which would remove what the dead left
            pass

    with when_builds_may_go_on(lambda: None, build):
        collect(store.root, nothing, ALL, NOW_NS)
    assert LocalStore(store.root).get_result(key) is not None
    lease.close()
    with store.lease():
        assert len(list((store.root / "v1/leases").iterdir())) == 1
    gone = collect(store.root, nothing, ALL, NOW_NS)
    assert list(gone.results) == [key.hash]


def test_a_project_may_come_while_a_collection_goes_on(store: LocalStore, tmp_path: Path) -> None:
    made(store, "old", 9, b"precious")
    with when_builds_may_go_on(lambda: None, lambda: store.register(tmp_path)):
        collect(store.root, lambda _: {digests.of_bytes(b"precious").hash}, ALL, NOW_NS)
    assert store.contains(digests.of_bytes(b"precious"))


def test_forked_children_hold_the_lease(store: LocalStore) -> None:
    digest = store.write(b"precious")

    def child() -> None:
        assert store.contains(digest)
        store.write(b"another")

    with store.lease(), store.lease():
        process = FORK.Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert collect(store.root, nothing, ALL, NOW_NS).size == 0
    assert len(collect(store.root, nothing, ALL, NOW_NS).blobs) == 2


def test_a_lease_on_a_full_disk(store: LocalStore) -> None:
    """A record that was cut off hides none that comes after it."""
    with store.lease():
        with failing_disk(1, calls=["write"], short=True), pytest.raises(StoreUnavailable):
            store.write(b"precious")
        digest = store.write(b"precious")
        assert collect(store.root, nothing, ALL, NOW_NS).size == 0
        assert store.contains(digest)


def test_a_store_that_is_read_only_gives_no_lease(store: LocalStore) -> None:
    digest = store.write(b"precious")
    other = LocalStore(store.root)
    with failing_disk(0, error=30, calls=["mkdir"]), other.lease():
        assert other.read(digest) == b"precious"


@pytest.fixture
def filled() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_directory()) as place:
        store = LocalStore(Path(place) / "cache")
        for number in range(3):
            made(store, str(number), number, bytes([number]) * 50, b"shared")
        store.stat.close()
        yield store.root


def check(root: Path) -> None:
    """No result names what is gone, and nothing is left over."""
    store = LocalStore(root)
    found = survey(root)
    for result in found.results.values():
        assert (result.outputs or set()) <= found.blobs.keys()
    collect(root, nothing, ALL, NOW_NS)
    assert survey(root).size == 0
    assert not leftovers(root)
    assert not list((root / "v1/leases").glob("*"))
    store.stat.close()


def calls_of_a_collection(root: Path) -> int:
    names: list[str] = []
    with hooked_disk(lambda _, name, arguments: names.append(name) or arguments):
        collect(root, nothing, Limits(size=700), NOW_NS)
    return len(names)


def test_a_collection_may_fail_or_die_anywhere(filled: Path) -> None:
    def die(nth: int) -> None:
        with deadly_disk(nth):
            collect(filled, nothing, Limits(size=700), NOW_NS)

    def fill() -> None:
        store = LocalStore(filled)
        for number in range(3):
            made(store, str(number), number, bytes([number]) * 50, b"shared")
        store.stat.close()

    count = calls_of_a_collection(filled)
    assert count > 20
    for nth in range(count):
        fill()
        child = FORK.Process(target=die, args=(nth,))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        check(filled)
        fill()
        with contextlib.suppress(StoreUnavailable), failing_disk(nth):
            collect(filled, nothing, Limits(size=700), NOW_NS)
        check(filled)
