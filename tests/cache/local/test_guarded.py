from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from cache.local import guarded


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_lock_excludes_threads_and_leaves_no_file(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    inside: list[int] = []
    most = []

    def work(number: int) -> None:
        for _ in range(30):
            with guarded.lock(path):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert names(tmp_path) == []


def count_up(path: Path) -> None:
    for _ in range(50):
        with guarded.lock(f"{path}.lock"):
            path.write_text(str(int(path.read_text()) + 1))


def test_a_lock_excludes_processes(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("0")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=count_up, args=(path,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert path.read_text() == "150"
    assert names(tmp_path) == ["counter"]


def test_a_lock_is_released_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), guarded.lock(str(tmp_path / "lock")):
        raise ZeroDivisionError
    with guarded.lock(str(tmp_path / "lock")):
        assert names(tmp_path) == ["lock"]
    assert names(tmp_path) == []


def test_a_lock_may_lose_its_directory(tmp_path: Path) -> None:
    with guarded.lock(str(tmp_path / "lock")):
        (tmp_path / "lock").unlink()


def test_a_temporary_file_goes_unless_it_is_renamed(tmp_path: Path) -> None:
    with guarded.temporary(str(tmp_path)) as (_, path):
        assert Path(path).read_bytes() == b""
    assert names(tmp_path) == []
    with guarded.temporary(str(tmp_path)) as (descriptor, path):
        os.write(descriptor, b"kept")
        Path(path).rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]
    with pytest.raises(ZeroDivisionError), guarded.temporary(str(tmp_path)):
        raise ZeroDivisionError
    assert names(tmp_path) == ["kept"]


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_scratch_goes_with_all_it_holds(tmp_path: Path, error: type[Exception] | None) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(0o755)
    try:
        with guarded.scratch(str(tmp_path)) as path:
            (Path(path) / "a" / "b").mkdir(parents=True)
            (Path(path) / "a" / "b" / "file").touch(0o444)
            (Path(path) / "link").symlink_to(outside)
            (Path(path) / "a" / "b").chmod(0o500)
            (Path(path) / "a").chmod(0)
            if error is not None:
                raise error
    except ZeroDivisionError:
        pass
    assert names(tmp_path) == ["outside"]
    assert outside.stat().st_mode & 0o777 == 0o755


def test_scratch_is_private_and_distinct(tmp_path: Path) -> None:
    with guarded.scratch(str(tmp_path)) as one, guarded.scratch(str(tmp_path)) as two:
        assert one != two
        assert Path(one).stat().st_mode & 0o777 == 0o700


def test_sweeping_leaves_what_is_in_use(tmp_path: Path) -> None:
    with (
        guarded.lock(str(tmp_path / "lock")),
        guarded.temporary(str(tmp_path)),
        guarded.scratch(str(tmp_path)) as path,
    ):
        (Path(path) / "file").touch()
        before = names(tmp_path)
        guarded.sweep(str(tmp_path))
        assert names(tmp_path) == before
        assert names(Path(path)) == ["file"]
    assert names(tmp_path) == []


def hold_and_die(directory: Path) -> None:
    with (
        guarded.lock(str(directory / "lock")),
        guarded.temporary(str(directory)) as (descriptor, _),
        guarded.scratch(str(directory)) as path,
    ):
        (Path(path) / "directory").mkdir()
        (Path(path) / "directory" / "file").touch()
        os.fchmod(descriptor, 0o444)
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_the_dead_leave_is_swept(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=hold_and_die, args=(tmp_path,))
    child.start()
    child.join()
    assert len(names(tmp_path)) == 4
    with guarded.lock(str(tmp_path / "lock")):  # the dead hold no lock
        pass
    guarded.sweep(str(tmp_path))
    assert names(tmp_path) == []


def test_sweeping_keeps_to_its_prefix(tmp_path: Path) -> None:
    for name in (".olmill-1", "other", ".olmill"):
        (tmp_path / name).touch()
    (tmp_path / ".olmill-2").mkdir()
    guarded.sweep(str(tmp_path), ".olmill-")
    assert names(tmp_path) == [".olmill", "other"]


def test_sweeping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    guarded.sweep(str(tmp_path / "absent"))


def test_sweeping_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "tmp" / "directory").symlink_to(tmp_path)
    guarded.sweep(str(tmp_path / "tmp"))
    assert (tmp_path / "precious").exists()


def make_and_drop(directory: Path) -> None:
    for _ in range(60):
        with guarded.temporary(str(directory)) as (descriptor, path):
            assert os.fstat(descriptor).st_ino == Path(path).stat().st_ino
        with guarded.scratch(str(directory)) as path:
            (Path(path) / "file").touch()


def test_sweeping_beside_work_disturbs_nobody(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=make_and_drop, args=(tmp_path,)) for _ in range(2)]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        guarded.sweep(str(tmp_path))
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert names(tmp_path) == []
