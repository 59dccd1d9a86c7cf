"""Many processes on one store at once, some of them killed."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import CorruptBlob, MissingBlob
from cache.local.store import LocalStore
from tests.cache.local_stores import FORK, KEY, blob_file, check_whole, leftovers, overwrite

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

CONTENTS = [b"%d" % number * (1 + 40_000 * (number % 3)) for number in range(8)]


def work(root: Path, place: Path, seed: int, steps: int, done: Connection | None = None) -> None:
    """Do random operations, all on the same few blobs, paths and one action."""
    rng = random.Random(seed)  # noqa: S311  no secret
    store = LocalStore(root)
    for _ in range(steps):
        data = rng.choice(CONTENTS)
        operation = rng.randrange(6)
        if operation == 0:
            assert store.read(store.write(data)) == data
        elif operation <= 2:
            with store.scratch() as scratch:
                (scratch / "file").write_bytes(data)
                digest = store.put_file(scratch / "file", consume=operation == 1)
                assert digest == digests.of_bytes(data)
        elif operation == 3:
            with store.lock(KEY):
                outputs = {"a": store.write(data), "b": store.write(rng.choice(CONTENTS))}
                store.put_result(KEY, ActionResult(outputs))
        elif operation == 4:
            store.materialise(store.write(data), place / f"file-{rng.randrange(3)}")
        else:
            result = store.get_result(KEY)
            assert result is None or set(result.outputs) == {"a", "b"}
        if done is not None:
            done.send_bytes(b".")
    store.stat.flush()


def check_place(place: Path) -> None:
    for path in place.iterdir():
        assert path.read_bytes() in CONTENTS


@pytest.mark.parametrize("seed", range(2))
def test_processes_may_do_the_same_at_once(tmp_path: Path, seed: int) -> None:
    root, place = tmp_path / "cache", tmp_path / "place"
    children = [
        FORK.Process(target=work, args=(root, place, seed * 10 + number, 60)) for number in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    check_whole(root)
    check_place(place)
    assert not leftovers(root)
    assert not (root / "v1" / "corrupt").exists()


def test_killed_processes_leave_a_whole_store(tmp_path: Path) -> None:
    """Two work at once; one dies at a random moment of a random operation, 40 times."""
    root, place = tmp_path / "cache", tmp_path / "place"
    rng = random.Random(1)  # noqa: S311  no secret
    for seed in range(40):
        here, there = FORK.Pipe(duplex=False)
        victim = FORK.Process(target=work, args=(root, place, seed, 10_000, there))
        other = FORK.Process(target=work, args=(root, place, 1000 + seed, 5))
        victim.start()
        there.close()
        other.start()
        for _ in range(rng.randrange(1, 12)):
            here.recv_bytes()
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        other.join()
        here.close()
        assert other.exitcode == 0
        check_whole(root)
        store = LocalStore(root)
        result = store.get_result(KEY)
        assert not leftovers(root)
        if result is not None:
            for digest in result.outputs.values():
                assert store.read(digest) in CONTENTS
        store.stat.close()
    check_place(place)
    assert not (root / "v1" / "corrupt").exists()


def damage_and_heal(root: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    store = LocalStore(root)
    for _ in range(150):
        data = rng.choice(CONTENTS)
        digest = store.write(data)
        if rng.randrange(4) == 0:
            try:
                overwrite(blob_file(root, digest), data.swapcase() + b"!")
            except FileNotFoundError:
                continue  # another process has just put it aside
        else:
            try:
                assert store.read(digest) == data
            except (MissingBlob, CorruptBlob):
                continue


def test_processes_may_find_the_same_damage_at_once(tmp_path: Path) -> None:
    children = [FORK.Process(target=damage_and_heal, args=(tmp_path, seed)) for seed in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    store = LocalStore(tmp_path)
    for data in CONTENTS:
        assert store.read(store.write(data)) == data
    assert not leftovers(tmp_path)
