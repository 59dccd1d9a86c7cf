"""Files into the local store and out of it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import CacheError, MissingBlob, StoreUnavailable
from cache.local.store import LocalStore
from tests.cache.local_stores import KEY, blob_file, check_whole, mode, overwrite, rot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = digests.of_bytes(b"content")


def test_a_root_that_leads_nowhere_is_one_message(tmp_path: Path) -> None:
    """As where the disk behind a symbolic link is not mounted."""
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(StoreUnavailable, match="link/v1: No such file") as caught:
        LocalStore(tmp_path / "link").write(b"x")
    assert "OLMILL_CACHE_DIR" in (caught.value.hint or "")


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
