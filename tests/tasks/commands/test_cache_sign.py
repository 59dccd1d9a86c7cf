"""`doit cache sign`: keys are replaced, and nothing is built for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.signing import Signer
from cache.trust import Trust
from tests.cache.hostile import Hostile, hostile
from tests.cache.signers import another
from tests.tasks.toy import Project, Step

OLD, NEW, STRANGER = another("old"), another("new"), another("stranger")

Capture = pytest.CaptureFixture[str]


def trust(*keys: Signer, by: Signer | None = None) -> Trust:
    return Trust({f"key-{one.builder}": one.public for one in keys}, by)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hostile]:
    """A server that the old key filled."""
    with hostile() as running:
        builder = machine(tmp_path / "old", running, trust(OLD, by=OLD), writes=True)
        assert builder.doit() == 0
        yield running


def machine(place: Path, server: Hostile, believed: Trust, *, writes: bool = False) -> Project:
    steps = {"a": Step("A"), "b": Step("B", ["a"])}
    made = Project(place / "project", place / "cache", steps, writes=writes, trust=believed)
    made.remote = lambda: connect(server.address, Credentials())
    return made


def test_keys_are_replaced(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    rotating = machine(tmp_path / "rotating", server, trust(OLD, NEW, by=NEW))
    server.asked.clear()
    capsys.readouterr()
    assert rotating.doit("cache", "sign") == 0
    assert capsys.readouterr().out == "signed 2 results; 0 were signed by this key\n"
    assert not any(one.method in ("GET", "PUT") and "/cas/" in one.path for one in server.asked)
    for believed in (trust(OLD), trust(NEW)):
        place = tmp_path / next(iter(believed.keys))
        reader = machine(place, server, believed)
        assert reader.doit("step:b") == 0
        assert reader.executed() == set()
        assert reader.output("b").read_text() == "BA"
        capsys.readouterr()
        assert reader.doit("cache", "audit", "--json") == 0
        rows = json.loads(capsys.readouterr().out)["results"]
        assert {row["builder"] for row in rows} == {"old"}
        assert {row["signer"] for row in rows} == set(believed.keys)
    files = dict(server.files)
    assert rotating.doit("cache", "sign", "step:b") == 0
    assert capsys.readouterr().out == "signed 0 results; 2 were signed by this key\n"
    assert server.files == files
    rotating.trust = trust(NEW, by=NEW)  # when the old one has gone
    assert rotating.doit("cache", "sign", "step:b") == 0
    assert capsys.readouterr().out == "signed 0 results; 2 were signed by this key\n"
    assert server.files == files


def test_what_nobody_vouches_for_is_not_signed(
    tmp_path: Path, server: Hostile, capsys: Capture
) -> None:
    files = dict(server.files)
    careful = machine(tmp_path / "careful", server, trust(NEW, by=NEW))
    capsys.readouterr()
    assert careful.doit("cache", "sign", "--json") == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["results"], told["there"], told["absent"]) == (0, 0, ["step:a", "step:b"])
    assert "1 result not believed: signed by no trusted key" in captured.err
    assert server.files == files


@pytest.mark.parametrize(
    ("believed", "mistake"),
    [
        (trust(OLD), "nothing to sign with"),
        (trust(by=NEW), "no keys are trusted"),
        (trust(OLD, by=STRANGER), "OLMILL_SIGNING_KEY is not trusted"),
    ],
)
def test_mistakes(
    tmp_path: Path, server: Hostile, capsys: Capture, believed: Trust, mistake: str
) -> None:
    files = dict(server.files)
    assert machine(tmp_path / "one", server, believed).doit("cache", "sign") != 0
    assert mistake in capsys.readouterr().err
    assert server.files == files
