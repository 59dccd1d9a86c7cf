"""What the stat cache may believe, and that it reads no more than it must."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cache import digest as digests
from cache.errors import CacheError
from cache.local.stat_cache import StatCache
from tests.cache.stat_caches import CONTENT, LONG_AGO, OTHER, Reads, again

if TYPE_CHECKING:
    from cache.digest import FileHash


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
    monkeypatch.setattr("cache.local.stat_cache.os.stat", lambda _: frozen)
    monkeypatch.setattr("cache.local.stat_cache.os.fstat", lambda _: frozen)
    assert cache.digest(file) == OTHER


def test_whole_second_times_stay_racy_for_longer(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    second = file.stat().st_ctime_ns // 1_000_000_000
    coarse = os.stat_result(
        [*file.stat()[:7], second, second, second],
        {"st_mtime_ns": second * 1_000_000_000, "st_ctime_ns": second * 1_000_000_000},
    )
    monkeypatch.setattr("cache.local.stat_cache.os.stat", lambda _: coarse)
    monkeypatch.setattr("cache.local.stat_cache.os.fstat", lambda _: coarse)
    for passed_ns, passes in [(1_900_000_000, (1, 0)), (2_000_000_000, (0, 1)), (0, (0, 0))]:
        now = second * 1_000_000_000 + passed_ns
        monkeypatch.setattr("cache.local.stat_cache.time.time_ns", lambda now=now: now)
        assert cache.digest(file) == CONTENT
        assert reads.since() == passes


def test_a_clock_set_back_costs_only_time(
    cache: StatCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.local.stat_cache.time.time_ns", lambda: LONG_AGO)
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


def test_the_garbage_collector_waits_for_no_transaction(tmp_path: Path, file: Path) -> None:
    """A dropped cache must not write while another one, in the same thread, is writing."""
    cache = StatCache(tmp_path / "stat.sqlite")
    cache.memo_put("first", file, b"value")
    cache.flush()
    dropped = StatCache(tmp_path / "stat.sqlite")
    assert dropped.memo_get("first", file) == b"value"
    dropped.memo_put("lost", file, b"value")
    connection = cache._database._connection
    assert connection is not None
    connection.execute("BEGIN IMMEDIATE")
    del dropped
    gc.collect()
    connection.execute("COMMIT")
    cache.memo_put("second", file, b"value")
    cache.close()
    assert StatCache(tmp_path / "stat.sqlite").memo_get("second", file) == b"value"


def test_the_end_of_the_process_saves(tmp_path: Path, file: Path) -> None:
    program = (
        "import sys; from cache.local.stat_cache import StatCache;"
        "cache = StatCache(sys.argv[1]); cache.memo_put('memo', sys.argv[2], b'value')"
    )
    database = tmp_path / "stat.sqlite"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program, database, file], check=True, cwd=root)
    assert StatCache(database).memo_get("memo", file) == b"value"


@pytest.mark.usefixtures("later")
def test_what_is_doubted_is_read_whatever_the_disk_remembers(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "home" / "stat.sqlite")
    digest = cache.digest(file)
    cache.close()
    cache = StatCache(tmp_path / "home" / "stat.sqlite")
    assert cache.peek(file) == digest
    cache.doubt(file)
    assert cache.peek(file) is None
    cache.close()
