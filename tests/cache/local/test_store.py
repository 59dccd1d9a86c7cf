"""The local store: the contract, and what only files can do."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import CorruptBlob, MissingBlob, StoreUnavailable
from cache.faults import failing_disk
from cache.local.store import LocalStore
from cache.testing import StoreContract, StoreMachine
from tests.cache.local_stores import (
    KEY,
    blob_file,
    leftovers,
    mode,
    overwrite,
    result_file,
    rot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cache.digest import Digest
    from cache.store import Store

CONTENT = digests.of_bytes(b"content")
CONTENTS = st.sampled_from([b"", b"a", b"bb", bytes(1000)])


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = LocalStore(tmp_path / "cache")
        yield store
        assert not leftovers(store.root)

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        assert isinstance(store, LocalStore)
        overwrite(blob_file(store.root, digest), data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        assert isinstance(store, LocalStore)
        overwrite(result_file(store.root, key), data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        assert isinstance(store, LocalStore)
        target = result_file(store.root, other)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(result_file(store.root, key), target)


class LocalMachine(StoreMachine):
    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.place = self.root.with_suffix(".place")
        self.place.mkdir()
        super().__init__()

    def open_store(self) -> Store:
        self.local = LocalStore(self.root)
        return self.local

    def damage_blob(self, digest: Digest, data: bytes | None) -> bool:
        overwrite(blob_file(self.root, digest), data)
        return True

    def damage_result(self, key: Digest, data: bytes | None) -> bool:
        overwrite(result_file(self.root, key), data)
        return True

    @rule(content=CONTENTS, consume=st.booleans())
    def put_file(self, content: bytes, *, consume: bool) -> None:
        path = self.root.with_suffix(".file")
        path.write_bytes(content)
        assert self.local.put_file(path, consume=consume) == self.model.write(content)
        path.unlink(missing_ok=True)

    @rule(content=CONTENTS, name=st.sampled_from(["one", "two"]))
    def materialise(self, content: bytes, name: str) -> None:
        digest = digests.of_bytes(content)
        if self.model.missing([digest]):
            with pytest.raises(MissingBlob):
                self.local.materialise(digest, self.place / name)
        else:
            self.local.materialise(digest, self.place / name)
            assert (self.place / name).read_bytes() == content

    @rule(content=CONTENTS, name=st.sampled_from(["one", "two"]))
    def edit_through_a_link(self, content: bytes, name: str) -> None:
        path = self.place / name
        if path.exists():
            before = path.stat()
            overwrite(path, content)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            for digest in self.model.blobs:
                if blob_file(self.root, digest).samefile(path):
                    self.model.blobs[digest] = content

    def teardown(self) -> None:
        shutil.rmtree(self.place)
        left = leftovers(self.root)
        shutil.rmtree(self.root)
        assert not left


TestLocalMachine = LocalMachine.TestCase
TestLocalMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_the_layout_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    store = LocalStore(tmp_path / "a" / "cache")
    before = os.umask(umask)
    try:
        digest = store.write(b"blob")
        with store.scratch() as scratch:
            (scratch / "made").write_bytes(b"made")
            made = store.put_file(scratch / "made", consume=True)
        store.put_result(KEY, ActionResult({"out": digest, "made": made}))
    finally:
        os.umask(before)
    found = {
        str(path.relative_to(tmp_path)): mode(path)
        for path in tmp_path.rglob("*")
        if path.name != "stat.sqlite"
    }
    home = "a/cache/v1"
    parts = ("tmp", "locks", "ac", "cas")
    directories = {"a", "a/cache", home, *(f"{home}/{part}" for part in parts)}
    directories |= {f"{home}/cas/{blob.hash[:2]}" for blob in (digest, made)}
    directories |= {f"{home}/ac/{KEY.hash[:2]}"}
    files = {
        "a/cache/CACHEDIR.TAG",
        f"{home}/cas/{digest.hash[:2]}/{digest.hash}",
        f"{home}/cas/{made.hash[:2]}/{made.hash}",
        f"{home}/ac/{KEY.hash[:2]}/{KEY.hash}",
    }
    assert found == dict.fromkeys(directories, 0o755) | dict.fromkeys(files, 0o444)


def test_backup_programs_are_told(store: LocalStore) -> None:
    store.write(b"x")
    tag = (store.root / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_files_that_are_not_ours_are_not_tagged(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    LocalStore(tmp_path).write(b"x")
    assert not (tmp_path / "CACHEDIR.TAG").exists()
    assert (tmp_path / "v1" / "CACHEDIR.TAG").exists()


def test_asking_makes_nothing(store: LocalStore, tmp_path: Path) -> None:
    assert store.missing([CONTENT]) == {CONTENT}
    assert store.get_result(KEY) is None
    with pytest.raises(MissingBlob):
        store.read(CONTENT)
    with pytest.raises(MissingBlob):
        store.materialise(CONTENT, tmp_path / "out" / "file")
    store.stat.flush()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_root_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore(Path("cache"))
    monkeypatch.chdir("/")
    store.write(b"x")
    assert (tmp_path / "cache" / "v1").is_dir()


def test_a_store_may_vanish_between_two_operations(store: LocalStore) -> None:
    for _ in range(2):
        digest = store.write(b"x")
        store.put_result(KEY, ActionResult({"a": digest}))
        shutil.rmtree(store.root)
        assert store.get_result(KEY) is None
        assert store.missing([digest]) == {digest}


def test_a_root_that_is_a_file_is_said_to_be(file: Path) -> None:
    store = LocalStore(file)
    assert store.get_result(KEY) is None
    with pytest.raises(StoreUnavailable, match=r"file/v1.*: Not a directory") as caught:
        store.write(b"x")
    assert caught.value.hint is not None
    assert "OLMILL_CACHE_DIR" in caught.value.hint


def test_rot_is_found_by_reading(store: LocalStore) -> None:
    digest = store.write(b"content")
    rot(store, digest)
    assert store.contains(digest)
    with pytest.raises(CorruptBlob, match="put aside") as caught:
        store.read(digest)
    assert caught.value.hint
    with pytest.raises(MissingBlob):
        store.read(digest)
    assert store.write(b"content") == digest
    assert store.read(digest) == b"content"


def test_a_directory_in_the_place_of_a_blob_is_put_aside(store: LocalStore) -> None:
    digest = store.write(b"content")
    blob_file(store.root, digest).unlink()
    (blob_file(store.root, digest) / "below").mkdir(parents=True)
    assert not store.contains(digest)
    store.write(b"content")
    assert store.read(digest) == b"content"


def test_a_huge_file_in_the_place_of_a_result_is_not_read(store: LocalStore) -> None:
    store.put_result(KEY, ActionResult({"a": store.write(b"a")}))
    path = result_file(store.root, KEY)
    path.chmod(0o644)
    os.truncate(path, 1 << 40)
    assert store.get_result(KEY) is None


def test_a_directory_in_the_place_of_a_result_is_no_result(store: LocalStore) -> None:
    result_file(store.root, KEY).mkdir(parents=True)
    assert store.get_result(KEY) is None


@pytest.mark.parametrize("position", range(0, 280, 9))
def test_no_flipped_bit_makes_another_result(store: LocalStore, position: int) -> None:
    outputs = {"a": store.write(b"content"), "c": store.write(b"other")}
    store.put_result(KEY, ActionResult(outputs))
    path = result_file(store.root, KEY)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1
    overwrite(path, bytes(data))
    assert store.get_result(KEY) is None


def test_a_blob_of_several_results_is_looked_at_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, own = store.write(b"shared"), store.write(b"own")
    results = {KEY: ActionResult({"a": shared}), own: ActionResult({"a": shared, "b": own})}
    for key, result in results.items():
        store.put_result(key, result)
    looked = []
    matches = store.stat.matches
    monkeypatch.setattr(
        store.stat, "matches", lambda path, digest: looked.append(digest) or matches(path, digest)
    )
    assert store.get_results([KEY, shared, own]) == results
    assert sorted(looked) == sorted([shared, own])


def test_results_that_lack_a_blob_are_none_and_others_are(store: LocalStore) -> None:
    shared, own = store.write(b"shared"), store.write(b"own")
    results = {shared: ActionResult({"a": shared}), own: ActionResult({"a": shared, "b": own})}
    for key, result in results.items():
        store.put_result(key, result)
    overwrite(blob_file(store.root, own), b"OWN")
    assert store.get_results(results) == {shared: results[shared]}
    overwrite(blob_file(store.root, shared), b"other!")
    assert store.get_results(results) == {}


def test_the_lock_of_an_action_excludes_others(store: LocalStore) -> None:
    other = digests.of_bytes(b"other")
    order: list[str] = []

    def work() -> None:
        with LocalStore(store.root).lock(KEY):
            order.append("second")

    with store.lock(KEY), store.lock(other):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("enter", [lambda store: store.lock(KEY), lambda store: store.scratch()])
def test_what_fails_inside_is_not_the_stores_fault(
    store: LocalStore, enter: Callable[[LocalStore], Any]
) -> None:
    with pytest.raises(FileNotFoundError), enter(store):
        raise FileNotFoundError
    assert not leftovers(store.root)


def test_scratch_is_on_the_stores_file_system(store: LocalStore) -> None:
    with store.scratch() as one, store.scratch() as two:
        assert one != two
        assert one.stat().st_dev == store.root.stat().st_dev
        (one / "outputs").mkdir()
        (one / "outputs" / "file").write_bytes(b"content")
        inode = (one / "outputs" / "file").stat().st_ino
        store.put_file(one / "outputs" / "file", consume=True)
    assert blob_file(store.root, CONTENT).stat().st_ino == inode


@pytest.mark.usefixtures("later")
def test_looking_up_a_result_opens_nothing_but_the_result(store: LocalStore) -> None:
    outputs = {f"out/{number}": store.write(b"%d" % number) for number in range(20)}
    store.put_result(KEY, ActionResult(outputs))
    with failing_disk() as calls:
        assert store.get_result(KEY) == ActionResult(outputs)
    assert calls.names == ["open", "read", "read"]


@pytest.mark.usefixtures("later")
def test_storing_what_is_there_writes_nothing(store: LocalStore, file: Path) -> None:
    store.put_file(file, consume=False)
    store.write(b"content")
    with failing_disk() as calls:
        assert store.write(b"content") == store.put_file(file, consume=False) == CONTENT
    assert calls.names == ["open"]  # of the file, to see that it is one
