import errno
import os
from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.publish import staged


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def fail_after_writing(path: Path, error: Exception) -> None:
    path.write_text("new")
    raise error


def test_a_new_directory_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staged(out) as directory:
        (directory / "a").write_text("1")
        assert not out.exists()
    assert names(out) == ["a"]
    assert names(out.parent) == ["out"]


def test_a_new_directory_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    with staged(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_existing_directory_keeps_other_files_and_loses_stale_ones(tmp_path: Path) -> None:
    for name in ("mine", "part_0", "part_1", "list"):
        (tmp_path / name).write_text("old")
    stale = lambda name: name.startswith("part_")  # noqa: E731  one line says it
    with staged(tmp_path, manifests=("list",), stale=stale) as directory:
        (directory / "part_0").write_text("new")
        (directory / "list").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "mine": "old",
        "part_0": "new",
        "list": "new",
    }


def test_the_manifest_is_absent_while_files_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list").write_text("old")
    seen = []
    replace = Path.replace

    def watch(self: Path, target: Path) -> Path:
        seen.append((target.name, (tmp_path / "list").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    with staged(tmp_path, manifests=("list",)) as directory:
        for name in ("z", "list", "a"):
            (directory / name).write_text("new")
    assert seen == [("a", False), ("z", False), ("list", False)]


def test_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with pytest.raises(KeyError), staged(tmp_path) as directory:
        fail_after_writing(directory / "old", KeyError())
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OlmoError) as caught, staged(tmp_path / "out", nbytes=3_000_000) as path:
        fail_after_writing(path / "a", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "no space left on the device (0.00 GB needed)" in str(caught.value)
    assert caught.value.hint is not None
    assert names(tmp_path) == []


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="no space left"), staged(tmp_path / "out", nbytes=1 << 70):
        pytest.fail("the block ran")
    assert names(tmp_path) == []


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OlmoError, match="exists and is not a directory"), staged(tmp_path / "out"):
        pytest.fail("the block ran")
    with (
        pytest.raises(OlmoError, match="cannot write: File exists"),
        staged(tmp_path / "out" / "x"),
    ):
        pytest.fail("the block ran")
    assert (tmp_path / "out").read_text() == "mine"
