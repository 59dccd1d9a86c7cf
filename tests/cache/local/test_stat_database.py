"""What the stat cache keeps on disk: lost, damaged, shared, grown too large."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cache import digest as digests
from cache.local.stat_cache import StatCache
from tests.cache.stat_caches import CONTENT, Reads, again


@pytest.mark.parametrize("offset", [0, 20, 100, 5000, -1])
def test_a_damaged_database_is_replaced(cache: StatCache, file: Path, offset: int) -> None:
    cache.digest(file)
    cache.memo_put("memo", file, b"value")
    cache.close()
    database = Path(cache._database._path)
    size = database.stat().st_size
    with database.open("r+b") as handle:
        handle.seek(offset % size)
        handle.write(os.urandom(min(4000, size - offset % size)))
    after = StatCache(database)
    assert after.digest(file) == CONTENT
    assert after.memo_get("memo", file) in {None, b"value"}
    after.memo_put("memo", file, b"value")
    after.close()
    final = StatCache(database)
    assert final.memo_get("memo", file) == b"value"
    final.close()


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + b"x" * 99])
def test_whatever_is_there_instead_is_replaced(
    cache: StatCache, file: Path, content: bytes
) -> None:
    database = Path(cache._database._path)
    database.parent.mkdir()
    database.write_bytes(content)
    assert cache.digest(file) == CONTENT
    cache.memo_put("memo", file, b"value")
    assert again(cache).memo_get("memo", file) == b"value"


@pytest.mark.usefixtures("later")
def test_no_flipped_bit_makes_a_wrong_digest(cache: StatCache, tmp_path: Path) -> None:
    """Every byte of the database in turn, with every file asked for again."""
    files = {tmp_path / name: digests.of_bytes(name.encode()) for name in "abc"}
    for path in files:
        path.write_bytes(path.name.encode())
        cache.digest(path)
        cache.memo_put("memo", path, path.name.encode())
    cache.close()
    database = Path(cache._database._path)
    good = database.read_bytes()
    used = [offset for offset, byte in enumerate(good) if byte]
    for offset in used:
        bad = bytearray(good)
        bad[offset] ^= 1 << offset % 8
        database.write_bytes(bad)
        damaged = StatCache(database)
        for path, digest in files.items():
            assert damaged.digest(path) == digest
            assert damaged.memo_get("memo", path) in {None, path.name.encode()}
        damaged._unsaved.clear()
        damaged.close()


def test_without_a_writable_place_it_works_all_the_same(tmp_path: Path, file: Path) -> None:
    (tmp_path / "blocked").write_bytes(b"a file, not a directory")
    cache = StatCache(tmp_path / "blocked" / "stat.sqlite")
    assert cache.digest(file) == CONTENT
    cache.memo_put("memo", file, b"value")
    cache.flush()
    assert cache.digest(file) == CONTENT
    assert cache.memo_get("memo", file) == b"value"
    cache.close()


@pytest.mark.parametrize(("one_by_one", "limit"), [(0, 2), (8, 8)], ids=["each", "all"])
def test_many_rows_are_found_beyond_what_is_preloaded(
    cache: StatCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reads: Reads,
    one_by_one: int,
    limit: int,
) -> None:
    monkeypatch.setattr("cache.local.stat_cache._PRELOAD", 2)
    monkeypatch.setattr("cache.local.stat_cache._MORE", 2)
    monkeypatch.setattr("cache.local.stat_cache._ONE_BY_ONE", one_by_one)
    now = time.time_ns
    monkeypatch.setattr("cache.local.stat_cache.time.time_ns", lambda: now() + 60_000_000_000)
    files = {tmp_path / str(number): digests.of_bytes(b"%d" % number) for number in range(9)}
    for path in files:
        path.write_bytes(path.name.encode())
        cache.digest(path)
    reads.since()
    fresh = again(cache)
    assert all(fresh.matches(path, digest) for path, digest in files.items())
    assert reads.since() == (0, 0)
    assert fresh._limit == limit
    fresh.close()


def test_an_old_database_is_pruned(
    cache: StatCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.local.stat_database._MAX_BYTES", 16384)
    for number in range(200):
        path = tmp_path / str(number)
        path.write_bytes(b"%d" % number)
        assert cache.digest(path) == digests.of_bytes(b"%d" % number)
        if number % 50 == 49:
            cache.flush()
    values, complete = cache._database.preload(1000)
    assert complete
    assert 0 < len(values) < 200


def look_in_a_child(cache: StatCache, file: Path) -> None:
    assert cache.digest(file) == CONTENT
    other = file.with_name("child")
    other.write_bytes(b"of the child")
    cache.memo_put("memo", other, b"value")
    cache.flush()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_shares_no_connection(cache: StatCache, file: Path) -> None:
    cache.digest(file)
    cache.flush()
    stop = threading.Event()

    def keep_busy() -> None:
        number = 0
        while not stop.wait(0.001):
            number += 1
            cache.memo_put(f"busy {number}", file, b"value")
            cache.flush()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(5):
            child = multiprocessing.get_context("fork").Process(
                target=look_in_a_child, args=(cache, file)
            )
            child.start()
            child.join()
            assert child.exitcode == 0
    finally:
        stop.set()
        busy.join()
    assert cache.memo_get("memo", file.with_name("child")) == b"value"
    assert cache.memo_get("busy 1", file) == b"value"


def write_until_killed(database: Path, file: Path) -> None:
    cache = StatCache(database)
    number = 0
    while True:
        number += 1
        cache.doubt(file)
        cache.digest(file)
        cache.memo_put(f"memo {number}", file, b"value")
        cache.flush()


def test_a_killed_writer_leaves_a_usable_database(tmp_path: Path, file: Path) -> None:
    database = tmp_path / "stat.sqlite"
    context = multiprocessing.get_context("fork")
    for number in range(10):
        child = context.Process(target=write_until_killed, args=(database, file))
        child.start()
        cache = StatCache(database)
        while cache.memo_get(f"memo {number + 1}", file) is None:
            assert child.is_alive()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        cache.memo_put(f"after {number}", file, b"value")
        cache.close()
    cache = StatCache(database)
    assert all(cache.memo_get(f"after {number}", file) == b"value" for number in range(10))
    cache.close()


def test_inodes_beyond_what_sqlite_counts_to(cache: StatCache, file: Path) -> None:
    """Some file systems number their inodes up to 2^64."""
    cache.digest(file)
    row = next(iter(cache._rows.values()))
    huge = (2**63, 2**64 - 1)
    cache._unsaved[huge] = row
    fresh = again(cache)
    assert fresh._known(huge) == row
    assert fresh._known((2**63 + 1, 2**64 - 1)) is None
