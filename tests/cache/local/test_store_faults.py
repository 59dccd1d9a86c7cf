"""Every system call of every operation fails once, and every one is where a process dies once.

After that the store holds only what is whole, the same operation then succeeds, and nothing is
left over.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import CacheError, StoreUnavailable
from cache.faults import deadly_disk, failing_disk, hooked_disk
from cache.local.store import LocalStore
from tests.cache.local_stores import (
    FORK,
    KEY,
    blob_file,
    check_whole,
    leftovers,
    memory_directory,
    overwrite,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL, LARGE = b"small", bytes(range(256)) * 600
SMALL_DIGEST, LARGE_DIGEST = digests.of_bytes(SMALL), digests.of_bytes(LARGE)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_directory() or tmp_path) as path:
        yield Path(path)


def write(store: LocalStore, place: Path) -> None:
    del place
    store.write(SMALL)
    assert store.read(SMALL_DIGEST) == SMALL


def heal(store: LocalStore, place: Path) -> None:
    del place
    if store.contains(SMALL_DIGEST):
        overwrite(blob_file(store.root, SMALL_DIGEST), b"SMALL")
    store.write(SMALL)
    assert store.read(SMALL_DIGEST) == SMALL


def put_copy(store: LocalStore, place: Path) -> None:
    (place / "file").write_bytes(LARGE)
    assert store.put_file(place / "file", consume=False) == LARGE_DIGEST
    assert (place / "file").read_bytes() == LARGE


def put_made(store: LocalStore, place: Path) -> None:
    del place
    with store.scratch() as scratch:
        (scratch / "file").write_bytes(LARGE)
        assert store.put_file(scratch / "file", consume=True) == LARGE_DIGEST


def put_result(store: LocalStore, place: Path) -> None:
    del place
    with store.lock(KEY):
        result = ActionResult({"a": store.write(SMALL), "b": store.write(LARGE)})
        store.put_result(KEY, result)
    assert store.get_result(KEY) == result


def materialise(store: LocalStore, place: Path) -> None:
    for data in (SMALL, LARGE):
        digest = store.write(data)
        store.materialise(digest, place / "new" / "file")
        assert (place / "new" / "file").read_bytes() == data


def materialise_copies(store: LocalStore, place: Path) -> None:
    def no_links(_: int, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if str(place) in str(arguments[-1]):
            raise OSError(errno.EXDEV, name)
        return arguments

    with hooked_disk(no_links, calls=("link",)):
        materialise(store, place)


OPERATIONS = [write, heal, put_copy, put_made, put_result, materialise, materialise_copies]


def check(root: Path, place: Path) -> None:
    """Assert what must hold whenever and however an operation ended."""
    check_whole(root)
    for path in place.rglob("*"):
        if path.is_file() and not path.name.startswith(".olmill-"):
            assert path.read_bytes() in {SMALL, LARGE}


def count_calls(operation: Callable[[LocalStore, Path], None], root: Path) -> int:
    (root / "place").mkdir(parents=True)
    with failing_disk(None) as calls:
        operation(LocalStore(root / "cache"), root / "place")
    shutil.rmtree(root)
    return len(calls.names)


def failure_of(
    operation: Callable[[LocalStore, Path], None], store: LocalStore, place: Path
) -> CacheError | OSError | None:
    try:
        operation(store, place)
    except (CacheError, OSError) as error:
        return error
    return None


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_call_may_fail(
    memory: Path, operation: Callable[[LocalStore, Path], None], error: int
) -> None:
    nth = 0
    failed = True
    while failed:
        root = memory / str(nth)
        place = root / "place"
        place.mkdir(parents=True)
        with failing_disk(nth, error=error, short=bool(nth % 2)) as calls:
            told = failure_of(operation, LocalStore(root / "cache"), place)
            failed = calls.failed
        if isinstance(told, CacheError):
            assert told.hint, calls.names[nth]
            assert "\n" not in str(told)
        elif told is not None:  # leaving scratch or a lock is not told as the store's failure
            assert told.errno == error
            assert calls.names[nth] in {"unlink", "rmdir", "open", "chmod"}
        check(root / "cache", place)
        store = LocalStore(root / "cache")
        operation(store, place)
        check(root / "cache", place)
        assert not leftovers(store.root), calls.names[nth]
        assert not list(place.rglob(".olmill-*"))
        shutil.rmtree(root)
        nth += 1
    assert nth > 8


def live_until(operation: Callable[[LocalStore, Path], None], root: Path, nth: int) -> None:
    with deadly_disk(nth):
        operation(LocalStore(root / "cache"), root / "place")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_process_may_die_at_every_call(
    memory: Path, operation: Callable[[LocalStore, Path], None]
) -> None:
    for nth in range(count_calls(operation, memory / "counted")):
        root = memory / str(nth)
        place = root / "place"
        place.mkdir(parents=True)
        child = FORK.Process(target=live_until, args=(operation, root, nth))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        check(root / "cache", place)
        store = LocalStore(root / "cache")
        store.get_result(KEY)  # any use sweeps
        assert not leftovers(store.root)
        operation(store, place)
        check(root / "cache", place)
        assert not leftovers(store.root)
        assert not list(place.rglob(".olmill-*"))
        store.stat.close()
        shutil.rmtree(root)


def write_beyond_the_limit(root: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    store = LocalStore(root)
    store.write(SMALL)
    puts: list[Callable[[], object]] = [
        lambda: store.write(LARGE),
        lambda: store.put_file(root / "x", consume=False),
    ]
    for put in puts:
        with pytest.raises(StoreUnavailable, match="File too large") as caught:
            put()
        assert caught.value.hint is not None
        assert "ulimit" in caught.value.hint
        assert not leftovers(root)
    assert store.read(SMALL_DIGEST) == SMALL


def test_a_real_limit_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    child = FORK.Process(target=write_beyond_the_limit, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    check_whole(tmp_path)
    store = LocalStore(tmp_path)
    assert store.missing([SMALL_DIGEST, LARGE_DIGEST]) == {LARGE_DIGEST}


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_read_only_store_serves_what_it_has(tmp_path: Path, error: int) -> None:
    root = tmp_path / "cache"
    writer = LocalStore(root)
    result = ActionResult({"a": writer.write(SMALL), "b": writer.write(LARGE)})
    writer.put_result(KEY, result)
    writer.stat.close()
    writing = {"mkdir", "link", "unlink", "replace", "rmdir", "write", "chmod", "fchmod", "fsync"}

    def read_only(_: int, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        inside = any(str(root) in str(argument) for argument in arguments)
        writes = name in writing or (
            name == "open" and arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if inside and writes:
            raise OSError(error, os.strerror(error), arguments[0])
        return arguments

    with hooked_disk(read_only):
        store = LocalStore(root)
        assert store.get_result(KEY) == result
        assert store.read(SMALL_DIGEST) == SMALL
        assert store.write(SMALL) == SMALL_DIGEST
        store.materialise(LARGE_DIGEST, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == LARGE
        refused: list[Callable[[], object]] = [
            lambda: store.write(b"new"),
            lambda: store.put_file(tmp_path / "out", consume=True),
            lambda: store.put_result(KEY, result),
            lambda: store.lock(KEY).__enter__(),
            lambda: store.scratch().__enter__(),
        ]
        for operation in refused:
            with pytest.raises(StoreUnavailable) as caught:
                operation()
            assert str(root) in str(caught.value)
            assert caught.value.hint
        assert (tmp_path / "out").exists()
    overwrite(blob_file(root, SMALL_DIGEST), b"SMALL")
    with hooked_disk(read_only):
        store = LocalStore(root)
        assert store.get_result(KEY) is None
        assert store.missing([SMALL_DIGEST]) == {SMALL_DIGEST}
        with pytest.raises(StoreUnavailable):
            store.write(SMALL)
    store.stat.close()
