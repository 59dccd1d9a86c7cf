"""The local store: the contract, and what only files can do."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from cache import digest as digests
from cache.action import ActionResult
from cache.digest import FileHash
from cache.errors import CacheError, CorruptBlob, MissingBlob, StoreUnavailable
from cache.local import LocalStore
from cache.testing import StoreContract, StoreMachine
from tests.cache.local_stores import KEY, blob_file, check_whole, leftovers, overwrite, result_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cache.digest import Digest
    from cache.store import Store

CONTENT = digests.of_bytes(b"content")


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
        super().__init__()

    def open_store(self) -> Store:
        return LocalStore(self.root)

    def damage_blob(self, digest: Digest, data: bytes | None) -> bool:
        overwrite(blob_file(self.root, digest), data)
        return True

    def damage_result(self, key: Digest, data: bytes | None) -> bool:
        overwrite(result_file(self.root, key), data)
        return True

    def teardown(self) -> None:
        left = leftovers(self.root)
        shutil.rmtree(self.root)
        assert not left


TestLocalMachine = LocalMachine.TestCase
TestLocalMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "cache")
    yield store
    assert not leftovers(store.root)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute pass between a file's last change and any look at it."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which hashing any file is a failure."""

    def refuse(*_: Any) -> Any:
        raise AssertionError

    def arm() -> None:
        for name in ("of_descriptor", "xxh3_of_descriptor"):
            monkeypatch.setattr(digests, name, refuse)
        monkeypatch.setattr("cache.copying.copy", refuse)

    return arm


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def rot(store: LocalStore, digest: Digest) -> None:
    """Change a blob as a failing disk does: the file's status shows nothing."""
    path = blob_file(store.root, digest)
    overwrite(path, path.read_bytes().swapcase())
    store.stat.learn(path.stat(), FileHash(digest, bytes(16)), time.time_ns() + 60_000_000_000)


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


class TestPutFile:
    def test_a_copied_file_stays_as_it_is(self, store: LocalStore, file: Path) -> None:
        before = file.stat()
        assert store.put_file(file, consume=False) == CONTENT
        after = file.stat()
        assert (before.st_mode, before.st_ctime_ns) == (after.st_mode, after.st_ctime_ns)
        assert store.read(CONTENT) == b"content"
        assert not blob_file(store.root, CONTENT).samefile(file)
        file.write_bytes(b"edited later")
        assert store.contains(CONTENT)

    def test_a_consumed_file_becomes_the_blob(self, store: LocalStore, file: Path) -> None:
        inode = file.stat().st_ino
        assert store.put_file(file, consume=True) == CONTENT
        assert not file.exists()
        blob = blob_file(store.root, CONTENT)
        assert (blob.stat().st_ino, blob.stat().st_nlink, mode(blob)) == (inode, 1, 0o444)

    def test_a_file_that_others_have_is_copied(self, store: LocalStore, file: Path) -> None:
        other = file.with_name("other")
        other.hardlink_to(file)
        assert store.put_file(file, consume=True) == CONTENT
        assert not file.exists()
        other.write_bytes(b"CONTENT")
        assert store.read(CONTENT) == b"content"

    def test_a_symlink_is_followed_and_only_it_is_consumed(
        self, store: LocalStore, file: Path
    ) -> None:
        link = file.with_name("link")
        link.symlink_to(file.name)
        assert store.put_file(link, consume=False) == CONTENT
        assert store.put_file(link, consume=True) == CONTENT
        assert not link.is_symlink()
        assert file.read_bytes() == b"content"

    @pytest.mark.parametrize("consume", [False, True])
    def test_a_blob_that_is_there_is_kept(
        self, store: LocalStore, file: Path, *, consume: bool
    ) -> None:
        store.write(b"content")
        before = blob_file(store.root, CONTENT).stat()
        assert store.put_file(file, consume=consume) == CONTENT
        assert file.exists() != consume
        assert blob_file(store.root, CONTENT).stat().st_ino == before.st_ino

    @pytest.mark.parametrize("consume", [False, True])
    @pytest.mark.parametrize("damage", [b"", b"CONTENT", b"something else", None])
    def test_a_damaged_blob_is_replaced(
        self, store: LocalStore, file: Path, damage: bytes | None, *, consume: bool
    ) -> None:
        store.write(b"content")
        overwrite(blob_file(store.root, CONTENT), damage)
        assert store.put_file(file, consume=consume) == CONTENT
        assert store.read(CONTENT) == b"content"
        check_whole(store.root)

    @pytest.mark.parametrize("consume", [False, True])
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("absent", "absent: No such file"),
            ("pipe", "pipe: not a regular file"),
            ("dir", "dir: not a regular file"),
            ("file/x", "file/x: Not a directory"),
        ],
    )
    def test_what_is_no_file_is_refused(
        self, store: LocalStore, file: Path, name: str, message: str, *, consume: bool
    ) -> None:
        os.mkfifo(file.with_name("pipe"))
        file.with_name("dir").mkdir()
        with pytest.raises(CacheError, match=message) as caught:
            store.put_file(file.parent / name, consume=consume)
        assert not isinstance(caught.value, StoreUnavailable)

    def test_a_file_that_never_rests_is_refused(
        self, store: LocalStore, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.write(b"prepared")
        write = os.write

        def edit_and_write(*arguments: Any) -> int:
            file.write_bytes(file.read_bytes() + b"more")
            return write(*arguments)

        monkeypatch.setattr(os, "write", edit_and_write)
        with pytest.raises(CacheError, match="changes while it is read"):
            store.put_file(file, consume=False)
        monkeypatch.undo()
        check_whole(store.root)

    @pytest.mark.usefixtures("later")
    def test_a_known_file_is_not_read_again(
        self, store: LocalStore, file: Path, unreadable: Callable[[], None]
    ) -> None:
        store.put_file(file, consume=False)
        unreadable()
        assert store.put_file(file, consume=False) == CONTENT
        assert store.stat.digest(file) == CONTENT


class TestMaterialise:
    def test_a_blob_is_hard_linked_and_read_only(self, store: LocalStore, tmp_path: Path) -> None:
        digest = store.write(b"content")
        for name in ("new/er/file", "new/other"):
            store.materialise(digest, tmp_path / name)
            assert (tmp_path / name).samefile(blob_file(store.root, digest))
            assert mode(tmp_path / name) == 0o444
            assert store.stat.matches(tmp_path / name, digest)
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["er", "other"]

    def test_what_is_there_is_replaced_not_written_to(
        self, store: LocalStore, file: Path, tmp_path: Path
    ) -> None:
        old, new = store.write(b"old"), store.write(b"new")
        (tmp_path / "symlink").symlink_to(file)
        (tmp_path / "dangling").symlink_to("nowhere")
        (tmp_path / "copy").write_bytes(b"whatever")
        store.materialise(old, tmp_path / "linked")
        for name in ("symlink", "dangling", "copy", "linked", "linked"):
            store.materialise(new, tmp_path / name)
            assert (tmp_path / name).samefile(blob_file(store.root, new))
            assert not (tmp_path / name).is_symlink()
        assert file.read_bytes() == b"content"
        assert store.read(old) == b"old"

    def test_a_directory_is_in_the_way(self, store: LocalStore, tmp_path: Path) -> None:
        digest = store.write(b"content")
        (tmp_path / "dir" / "full").mkdir(parents=True)
        with pytest.raises(CacheError, match="dir: is a directory") as caught:
            store.materialise(digest, tmp_path / "dir")
        assert caught.value.hint
        assert (tmp_path / "dir" / "full").is_dir()

    def test_a_file_is_in_the_way(self, store: LocalStore, file: Path) -> None:
        digest = store.write(b"content")
        with pytest.raises(StoreUnavailable, match="file"):
            store.materialise(digest, file / "below")

    def test_a_changed_mode_is_mended(self, store: LocalStore, tmp_path: Path) -> None:
        digest = store.write(b"content")
        store.materialise(digest, tmp_path / "one")
        (tmp_path / "one").chmod(0o666)
        store.materialise(digest, tmp_path / "two")
        assert mode(tmp_path / "one") == mode(tmp_path / "two") == 0o444

    @pytest.mark.parametrize("content", [b"CONTENT", b"longer than before", b""])
    def test_an_edit_through_a_link_is_never_served(
        self, store: LocalStore, tmp_path: Path, content: bytes
    ) -> None:
        digest = store.write(b"content")
        store.put_result(KEY, ActionResult({"out": digest}))
        target = tmp_path / "out"
        store.materialise(digest, target)
        before = target.stat()
        overwrite(target, content)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert not store.stat.matches(target, digest)
        assert store.get_result(KEY) is None
        with pytest.raises(MissingBlob):
            store.materialise(digest, tmp_path / "other")
        with pytest.raises(MissingBlob):
            store.read(digest)
        # What the user wrote is the user's, and stays.
        assert target.read_bytes() == content
        assert (store.root / "v1" / "corrupt" / digest.hash).read_bytes() == content
        store.write(b"content")
        store.materialise(digest, target)
        assert target.read_bytes() == b"content"
        assert store.get_result(KEY) == ActionResult({"out": digest})
        check_whole(store.root)

    def test_an_edit_by_replacing_leaves_the_blob(self, store: LocalStore, tmp_path: Path) -> None:
        digest = store.write(b"content")
        store.materialise(digest, tmp_path / "out")
        (tmp_path / "new").write_bytes(b"CONTENT")
        (tmp_path / "new").replace(tmp_path / "out")
        assert not store.stat.matches(tmp_path / "out", digest)
        assert store.read(digest) == b"content"

    @pytest.mark.usefixtures("later")
    def test_linking_costs_no_reading(
        self, store: LocalStore, file: Path, tmp_path: Path, unreadable: Callable[[], None]
    ) -> None:
        digest = store.put_file(file, consume=True)
        unreadable()
        for name in ("a", "b", "a"):
            store.materialise(digest, tmp_path / name)
            assert store.stat.matches(tmp_path / name, digest)
        assert store.blob_path(digest) == blob_file(store.root, digest)

    @pytest.fixture(params=[errno.EXDEV, errno.EMLINK, errno.EPERM])
    def _no_links(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(os, "link", refuse)

    @pytest.mark.usefixtures("_no_links")
    def test_without_links_there_are_copies(self, store: LocalStore, tmp_path: Path) -> None:
        old, new = store.write(b"old"), store.write(bytes(3 << 20))
        target = tmp_path / "out" / "file"
        for digest in (old, new, new):
            store.materialise(digest, target)
            assert digests.of_file(target).digest == digest
            assert store.stat.matches(target, digest)
            assert not target.samefile(blob_file(store.root, digest))
            assert mode(target) == 0o444
        assert [path.name for path in target.parent.iterdir()] == ["file"]
        (tmp_path / "made").write_bytes(b"made")
        assert store.read(store.put_file(tmp_path / "made", consume=True)) == b"made"
        check_whole(store.root)

    @pytest.mark.usefixtures("_no_links")
    def test_a_copy_cut_off_by_a_crash_goes(self, store: LocalStore, tmp_path: Path) -> None:
        digest = store.write(b"content")
        (tmp_path / ".olmill-0123456789abcdef").touch(0o444)
        store.materialise(digest, tmp_path / "file")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file"]

    @pytest.mark.usefixtures("_no_links")
    def test_rot_is_found_by_copying(self, store: LocalStore, tmp_path: Path) -> None:
        digest = store.write(b"content")
        rot(store, digest)
        (tmp_path / "file").write_bytes(b"old")
        with pytest.raises(MissingBlob):
            store.materialise(digest, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file"]
        assert not store.contains(digest)


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
