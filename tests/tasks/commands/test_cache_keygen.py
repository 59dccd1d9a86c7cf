"""`doit cache keygen`: a key that signs, in a file of its owner's."""

import os
import stat
import tomllib
from pathlib import Path

import pytest

from cache import signing
from tasks.configuration.mistakes import Mistakes
from tasks.configuration.trust import chosen_trust, read_trust
from tests.tasks.toy import Project

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "cache")


def test_what_it_makes_can_be_used(project: Project, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "ci-2026.pem"
    before = os.umask(0)
    try:
        assert project.doit("cache", "keygen", str(file)) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    captured = capsys.readouterr()
    mistakes = Mistakes()
    keys = read_trust(tomllib.loads(captured.out), mistakes)
    assert not mistakes.lines
    for text in (str(file), file.read_text()):
        found = chosen_trust(keys, {"OLMILL_SIGNING_KEY": text}).signer
        assert found is not None
        assert (found.builder, found.public) == ("ci-2026", keys["ci-2026"])
    private = file.read_text().splitlines()[1]
    assert private not in captured.out + captured.err


def test_nothing_is_overwritten(project: Project, tmp_path: Path, capsys: Capture) -> None:
    file, link = tmp_path / "key", tmp_path / "link"
    file.write_text("precious")
    link.symlink_to(tmp_path / "elsewhere")
    for path in (file, link):
        assert project.doit("cache", "keygen", str(path)) == 3
        assert f"{path} is there already" in capsys.readouterr().err
    assert file.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_every_key_is_another(project: Project, tmp_path: Path, capsys: Capture) -> None:
    for name in ("one", "two"):
        assert project.doit("cache", "keygen", str(tmp_path / name)) == 0
    one, two = (line.partition(" = ")[2] for line in capsys.readouterr().out.splitlines())
    assert signing.read_public(one.strip('"')) != signing.read_public(two.strip('"'))


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        ([], "doit cache keygen FILE"),
        (["a", "b"], "makes one file"),
        (["no/where/key"], "no/where/key"),
    ],
)
def test_mistakes(project: Project, capsys: Capture, arguments: list[str], mistake: str) -> None:
    assert project.doit("cache", "keygen", *arguments) == 3
    assert mistake in capsys.readouterr().err
