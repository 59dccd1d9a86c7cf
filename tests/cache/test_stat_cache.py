"""What the stat cache may believe, and that it reads no more than it must."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache import digest as digests
from cache.errors import CacheError
from cache.stat_cache import StatCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import FileHash

LONG_AGO = 1_000_000_000_000_000_000


class Reads:
    """How often files were read since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sha256 = self.xxh3 = 0
        of_descriptor, xxh3_of_descriptor = digests.of_descriptor, digests.xxh3_of_descriptor

        def counted(descriptor: int) -> FileHash:
            self.sha256 += 1
            return of_descriptor(descriptor)

        def counted_xxh3(descriptor: int) -> bytes:
            self.xxh3 += 1
            return xxh3_of_descriptor(descriptor)

        monkeypatch.setattr(digests, "of_descriptor", counted)
        monkeypatch.setattr(digests, "xxh3_of_descriptor", counted_xxh3)

    def since(self) -> tuple[int, int]:
        """Return (sha256, xxh3) passes, and begin to count anew."""
        counts = self.sha256, self.xxh3
        self.sha256 = self.xxh3 = 0
        return counts


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute pass between a file's last change and any look at it."""
    now = time.time_ns
    monkeypatch.setattr("cache.stat_cache.time.time_ns", lambda: now() + 60_000_000_000)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[StatCache]:
    cache = StatCache(tmp_path / "home" / "stat.sqlite")
    yield cache
    cache.close()


def again(cache: StatCache) -> StatCache:
    """Return the cache as the next process sees it."""
    cache.flush()
    return StatCache(cache._database._path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


CONTENT = digests.of_bytes(b"content")
OTHER = digests.of_bytes(b"CONTENT")


@pytest.mark.usefixtures("later")
def test_a_file_is_read_once(cache: StatCache, file: Path, reads: Reads) -> None:
    assert cache.peek(file) is None
    assert cache.digest(file) == CONTENT
    assert reads.since() == (1, 0)
    for view in (cache, again(cache)):
        assert view.digest(file) == view.peek(file) == CONTENT
        assert view.matches(file, CONTENT)
        assert not view.matches(file, OTHER)
    assert reads.since() == (0, 0)


@pytest.mark.usefixtures("later")
def test_a_large_file_is_read_once_by_many_threads(
    cache: StatCache, file: Path, reads: Reads
) -> None:
    file.write_bytes(bytes(20 << 20))
    start = threading.Barrier(8)

    def look() -> None:
        start.wait()
        assert cache.matches(file, digests.of_bytes(bytes(20 << 20)))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads.since() == (1, 0)


@pytest.mark.usefixtures("later")
def test_a_touched_file_costs_one_rehash_ever(cache: StatCache, file: Path, reads: Reads) -> None:
    cache.digest(file)
    reads.since()
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    assert cache.digest(file) == CONTENT
    assert reads.since() == (0, 1)
    assert again(cache).matches(file, CONTENT)
    assert reads.since() == (0, 0)


@pytest.mark.usefixtures("later")
def test_a_moved_or_linked_file_is_known(cache: StatCache, file: Path, reads: Reads) -> None:
    cache.digest(file)
    reads.since()
    file.with_name("link").hardlink_to(file)
    cache.record(file, CONTENT)
    assert cache.matches(file.with_name("link"), CONTENT)
    assert reads.since() == (0, 0)


@pytest.mark.usefixtures("later")
def test_record_believes_nothing_but_a_new_ctime(
    cache: StatCache, file: Path, reads: Reads
) -> None:
    cache.record(file, OTHER)  # never seen
    assert cache.digest(file) == CONTENT
    reads.since()
    cache.record(file, OTHER)  # seen with another content
    assert cache.digest(file) == CONTENT
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    cache.record(file, CONTENT)  # the mtime is new, too
    assert cache.digest(file) == OTHER
    assert reads.since()[0] > 0


@pytest.mark.usefixtures("later")
def test_a_restored_mtime_deceives_nobody(cache: StatCache, file: Path) -> None:
    before = file.stat()
    assert cache.digest(file) == CONTENT
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert cache.digest(file) == OTHER
    assert not again(cache).matches(file, CONTENT)


def test_a_change_in_the_same_tick_is_noticed(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ctime that an edit leaves may be the one it had: forge that with a frozen status."""
    frozen = file.stat()
    assert cache.digest(file) == CONTENT
    file.write_bytes(b"CONTENT")
    monkeypatch.setattr("cache.stat_cache.os.stat", lambda _: frozen)
    monkeypatch.setattr("cache.stat_cache.os.fstat", lambda _: frozen)
    assert cache.digest(file) == OTHER


def test_whole_second_times_stay_racy_for_longer(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    second = file.stat().st_ctime_ns // 1_000_000_000
    coarse = os.stat_result(
        [*file.stat()[:7], second, second, second],
        {"st_mtime_ns": second * 1_000_000_000, "st_ctime_ns": second * 1_000_000_000},
    )
    monkeypatch.setattr("cache.stat_cache.os.stat", lambda _: coarse)
    monkeypatch.setattr("cache.stat_cache.os.fstat", lambda _: coarse)
    for passed_ns, passes in [(1_900_000_000, (1, 0)), (2_000_000_000, (0, 1)), (0, (0, 0))]:
        now = second * 1_000_000_000 + passed_ns
        monkeypatch.setattr("cache.stat_cache.time.time_ns", lambda now=now: now)
        assert cache.digest(file) == CONTENT
        assert reads.since() == passes


def test_a_clock_set_back_costs_only_time(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.stat_cache.time.time_ns", lambda: LONG_AGO)
    assert cache.digest(file) == CONTENT
    file.write_bytes(b"CONTENT")
    assert cache.digest(file) == OTHER


@pytest.mark.usefixtures("later")
def test_doubt_has_the_file_read_again(cache: StatCache, file: Path, reads: Reads) -> None:
    cache.doubt(file)
    cache.digest(file)
    cache.doubt(file)
    assert cache.peek(file) is None
    assert cache.digest(file) == CONTENT
    assert reads.since() == (1, 1)


def test_what_is_no_file_matches_nothing(cache: StatCache, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "plain").touch()
    for name in ("absent", "pipe", "loop", "nowhere", ".", "plain/below"):
        assert not cache.matches(tmp_path / name, digests.EMPTY)
        with pytest.raises((OSError, CacheError)):
            cache.digest(tmp_path / name)
    with pytest.raises(CacheError, match="not a regular file"):
        cache.digest(tmp_path / "pipe")


@pytest.mark.usefixtures("later")
def test_symlinks_are_followed(cache: StatCache, file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert cache.matches(link, CONTENT)
    file.write_bytes(b"CONTENT")
    assert cache.digest(link) == OTHER


def test_a_file_that_changes_while_it_is_read_is_read_again(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_descriptor = digests.of_descriptor
    contents = [b"CONTENT", b"longer than before", b"content"]

    def edited(descriptor: int) -> FileHash:
        hashed = of_descriptor(descriptor)
        if contents:
            before = file.stat()
            file.write_bytes(contents.pop())
            if contents:
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        return hashed

    monkeypatch.setattr(digests, "of_descriptor", edited)
    assert cache.digest(file) == OTHER
    assert not contents


def test_a_file_that_never_rests_is_an_error(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_descriptor = digests.of_descriptor

    def edited(descriptor: int) -> FileHash:
        hashed = of_descriptor(descriptor)
        file.write_bytes(file.read_bytes() + b"more")
        return hashed

    monkeypatch.setattr(digests, "of_descriptor", edited)
    with pytest.raises(CacheError, match="changes while it is read") as caught:
        cache.digest(file)
    assert caught.value.hint
    monkeypatch.undo()
    assert cache.digest(file) == digests.of_bytes(file.read_bytes())


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


def test_asking_makes_no_file(cache: StatCache, file: Path) -> None:
    assert not cache.matches(file, digests.EMPTY)
    assert cache.peek(file) is None
    cache.flush()
    assert not Path(cache._database._path).exists()


@pytest.mark.usefixtures("later")
def test_what_another_process_has_read_is_not_read_again(
    cache: StatCache, file: Path, reads: Reads
) -> None:
    other = again(cache)
    cache.digest(file)
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    other.digest(file)
    other.close()
    reads.since()
    assert cache.digest(file) == CONTENT
    assert reads.since() == (0, 0)


def test_memos_follow_the_content(cache: StatCache, file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copyfile(file, copy)
    assert cache.memo_get("code", file) is None
    cache.memo_put("code", file, b"print")
    for view in (cache, again(cache)):
        assert view.memo_get("code", file) == view.memo_get("code", copy) == b"print"
        assert view.memo_get("other", file) is None
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    assert cache.memo_get("code", file) == b"print"
    file.write_bytes(b"CONTENT")
    assert cache.memo_get("code", file) is None


def test_a_memo_of_what_has_changed_meanwhile_is_dropped(cache: StatCache, file: Path) -> None:
    assert cache.memo_get("code", file) is None
    file.write_bytes(b"CONTENT")
    cache.memo_put("code", file, b"of the content before")
    assert cache.memo_get("code", file) is None
    cache.memo_put("code", file, b"of the content now")
    assert cache.memo_get("code", file) == b"of the content now"


def test_a_file_from_the_far_future_is_not_remembered(cache: StatCache, file: Path) -> None:
    os.utime(file, (10_000_000_000, 10_000_000_000))
    assert cache.digest(file) == CONTENT
    cache.flush()
    assert again(cache).digest(file) == CONTENT


def test_nothing_is_lost_when_the_cache_is_dropped(tmp_path: Path, file: Path) -> None:
    database = tmp_path / "stat.sqlite"
    StatCache(database).memo_put("memo", file, b"value")
    cache = StatCache(database)
    assert cache.memo_get("memo", file) == b"value"
    cache.close()


def test_many_rows_are_found_beyond_what_is_preloaded(
    cache: StatCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    monkeypatch.setattr("cache.stat_database._PRELOAD", 2)
    now = time.time_ns
    monkeypatch.setattr("cache.stat_cache.time.time_ns", lambda: now() + 60_000_000_000)
    files = {tmp_path / str(number): digests.of_bytes(b"%d" % number) for number in range(9)}
    for path in files:
        path.write_bytes(path.name.encode())
        cache.digest(path)
    reads.since()
    fresh = again(cache)
    assert all(fresh.matches(path, digest) for path, digest in files.items())
    assert reads.since() == (0, 0)
    fresh.close()


def test_an_old_database_is_pruned(
    cache: StatCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.stat_database._MAX_BYTES", 16384)
    for number in range(200):
        path = tmp_path / str(number)
        path.write_bytes(b"%d" % number)
        assert cache.digest(path) == digests.of_bytes(b"%d" % number)
        if number % 50 == 49:
            cache.flush()
    values, complete = cache._database.preload()
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
        while not stop.is_set():
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


CONTENTS = st.sampled_from([b"", b"aaaa", b"bbbb", b"longer"])
NAMES = st.sampled_from(["a", "b", "c"])


class StatCacheMachine(RuleBasedStateMachine):
    """Files changed in every way that leaves some of their status as it was, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.files: dict[str, bytes] = {}
        self.cache = StatCache(self.root / "stat.sqlite")

    def path(self, name: str) -> Path:
        return self.root / f"file-{name}"

    @rule(name=NAMES, content=CONTENTS)
    def replace(self, name: str, content: bytes) -> None:
        new = self.root / "new"
        new.write_bytes(content)
        new.replace(self.path(name))
        self.files[name] = content

    @rule(name=NAMES, content=CONTENTS, restore=st.booleans())
    def edit(self, name: str, content: bytes, *, restore: bool) -> None:
        path = self.path(name)
        before = path.stat() if name in self.files else None
        linked = [
            other
            for other in self.files
            if before is not None and self.path(other).stat().st_ino == before.st_ino
        ]
        path.write_bytes(content)
        if restore and before is not None:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        for other in {name, *linked}:
            self.files[other] = content

    @rule(name=NAMES, stamp=st.sampled_from([LONG_AGO, LONG_AGO + 1]))
    def touch(self, name: str, stamp: int) -> None:
        if name in self.files:
            os.utime(self.path(name), ns=(stamp, stamp))

    @rule(name=NAMES, new=NAMES)
    def link(self, name: str, new: str) -> None:
        if name in self.files and new not in self.files:
            digest = self.cache.digest(self.path(name))
            self.path(new).hardlink_to(self.path(name))
            self.cache.record(self.path(new), digest)
            self.files[new] = self.files[name]

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if self.files.pop(name, None) is not None:
            self.path(name).unlink()

    @rule(flush=st.booleans())
    def another_process(self, *, flush: bool) -> None:
        if not flush:
            self.cache._unsaved.clear()
        self.cache.close()
        self.cache = StatCache(self.root / "stat.sqlite")

    @rule()
    def damage(self) -> None:
        self.cache.close()
        database = self.root / "stat.sqlite"
        if database.exists():
            os.truncate(database, database.stat().st_size // 2)

    @rule(name=NAMES, content=CONTENTS)
    def matches(self, name: str, content: bytes) -> None:
        expected = self.files.get(name) == content
        assert self.cache.matches(self.path(name), digests.of_bytes(content)) == expected

    @invariant()
    def knows(self) -> None:
        for name, content in self.files.items():
            digest = digests.of_bytes(content)
            assert self.cache.peek(self.path(name)) in {None, digest}

    @rule()
    def digests(self) -> None:
        for name, content in self.files.items():
            assert self.cache.digest(self.path(name)) == digests.of_bytes(content)

    def teardown(self) -> None:
        self.cache.close()
        shutil.rmtree(self.root)


TestStatCacheMachine = StatCacheMachine.TestCase
TestStatCacheMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
