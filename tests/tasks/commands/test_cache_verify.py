"""`doit cache verify`: every kind of damage is found, listed and healed by a build."""

import json
from pathlib import Path
from typing import Any

import pytest

from cache import digest as digests
from cache.local.store import LocalStore
from cache.local.survey import survey
from tests.cache.local_stores import blob_file, overwrite, rot
from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, capsys: Capture) -> Project:
    made = Project(
        tmp_path / "project", tmp_path / "cache", {"a": Step("A"), "b": Step("B", ["a"])}
    )
    assert made.doit() == 0
    capsys.readouterr()
    return made


def found(project: Project, capsys: Capture, code: int) -> dict[str, Any]:
    assert project.doit("cache", "verify", "--json") == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_nothing_is_damaged(project: Project, capsys: Capture) -> None:
    assert project.doit("cache", "verify") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("2 results, ")
    assert shown.out.endswith(": all as it was made\n")
    assert shown.err.startswith("reading ")


def test_a_blob_that_rotted_is_found_although_its_file_looks_as_before(
    project: Project, capsys: Capture
) -> None:
    digest = digests.of_bytes(b"A")
    store = LocalStore(project.cache)
    rot(store, digest)
    store.stat.close()
    assert project.doit("cache", "verify") == 1
    shown = capsys.readouterr().out
    assert f"damaged blob {digest.hash}, put aside\n  of step:a\n" in shown
    assert "1 blobs and 0 results damaged; 1 results lack a blob" in shown
    assert list((project.cache / "v1/corrupt").iterdir())
    assert found(project, capsys, 0)["lacking"][0]["node"] == "step:a"


@pytest.mark.parametrize("damage", [b"", b"ABC", b"X"])
def test_a_blob_that_was_changed_is_found(project: Project, capsys: Capture, damage: bytes) -> None:
    digest = digests.of_bytes(b"A")
    overwrite(blob_file(project.cache, digest), damage)
    told = found(project, capsys, 1)
    assert told["damaged_blobs"] == [{"sha256": digest.hash, "nodes": ["step:a"]}]
    assert not blob_file(project.cache, digest).exists()
    assert project.doit() == 0
    assert blob_file(project.cache, digest).read_bytes() == b"A"
    assert found(project, capsys, 0)["lacking"] == []


@pytest.mark.parametrize("decodable", [True, False])
def test_a_result_that_was_changed_is_found(
    project: Project, capsys: Capture, decodable: bool
) -> None:
    first, second = sorted((project.cache / "v1/ac").glob("*/*"))
    overwrite(first, second.read_bytes() if decodable else first.read_bytes()[:-1])
    told = found(project, capsys, 1)
    assert [damaged["key"] for damaged in told["damaged_results"]] == [first.name]
    assert told["damaged_results"][0]["node"] in ("step:a", "step:b")
    assert set(survey(project.cache).results) == {second.name}


def test_a_result_that_a_build_is_about_to_replace_stays(project: Project, capsys: Capture) -> None:
    first = min((project.cache / "v1/ac").glob("*/*"))
    overwrite(first, b"garbage")
    builder = LocalStore(project.cache)
    with builder.lease():
        builder._lease.name([first.name])
        assert len(found(project, capsys, 1)["damaged_results"]) == 1
        assert first.exists()


def test_it_is_about_all(project: Project, capsys: Capture) -> None:
    assert project.doit("cache", "verify", "step:a") == 3
    assert "it takes no tasks" in capsys.readouterr().err
