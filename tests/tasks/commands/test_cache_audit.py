"""`doit cache audit`: who made what, and whether that is trusted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cache import signing
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.trust import Trust
from tests.cache.hostile import Hostile, hostile
from tests.cache.signers import another
from tests.tasks.toy import Project, Step

CI, NEW, STRANGER = another("ci"), another("new"), another("stranger")
KEYS = {"ci-key": CI.public}

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


def machine(place: Path, server: Hostile, trust: Trust, *, writes: bool = False) -> Project:
    steps = {"a": Step("A"), "b": Step("B", ["a"])}
    made = Project(place / "project", place / "cache", steps, writes=writes, trust=trust)
    made.remote = lambda: connect(server.address, Credentials())
    return made


def audit(project: Project, capsys: Capture, *names: str) -> tuple[int, list[list[str]]]:
    """Exit code, and (node, where, builder, signer, verdict) of each row."""
    capsys.readouterr()
    code = project.doit("cache", "audit", "--json", *names)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    trusted = {name: signing.write_public(key) for name, key in project.trust.keys.items()}
    assert told["trusted"] == trusted
    parts = ("node", "where", "builder", "signer", "verdict")
    assert all(set(row) == {*parts, "key"} for row in told["results"])
    return code, [[row[part] for part in parts] for row in told["results"]]


def test_who_made_what(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    ci = machine(tmp_path / "ci", server, Trust(KEYS, CI), writes=True)
    assert audit(ci, capsys) == (
        0,
        [
            ["step:a", None, None, None, "not built"],
            ["step:b", None, None, None, "not built"],
        ],
    )
    assert ci.doit() == 0
    here, there = ["here", None, None, "built here"], ["remote", "ci", "ci-key", "trusted"]
    both = (0, [["step:a", *here], ["step:a", *there], ["step:b", *here], ["step:b", *there]])
    assert audit(ci, capsys) == both
    reader = machine(tmp_path / "reader", server, Trust(KEYS))
    assert audit(reader, capsys) == (0, [["step:a", *there], ["step:b", *there]])
    assert reader.doit("step:b") == 0
    fetched = ["here", "ci", "ci-key", "trusted"]
    assert audit(reader, capsys, "step:b")[1][-2:] == [["step:b", *fetched], ["step:b", *there]]


def test_who_is_not_trusted(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    stranger = machine(tmp_path / "stranger", server, Trust(signer=STRANGER), writes=True)
    assert stranger.doit() == 0
    beginning = signing.write_public(STRANGER.public)[:12] + "…"
    verdict = ["remote", "stranger", beginning, "signed by no trusted key"]
    rows = [["step:a", *verdict], ["step:b", *verdict]]
    assert audit(machine(tmp_path / "all", server, Trust()), capsys) == (0, rows)
    assert audit(machine(tmp_path / "some", server, Trust(KEYS)), capsys) == (1, rows)


def test_what_is_not_signed(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    assert machine(tmp_path / "ci", server, Trust(), writes=True).doit() == 0
    reader = machine(tmp_path / "reader", server, Trust(KEYS))
    assert reader.doit("cache", "audit", "step:a") == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["node", "key", "where", "builder", "signer", "verdict"]
    assert shown[1].split()[0] == "step:a"
    assert shown[1].endswith("not signed")
    assert shown[-1] == "1 not signed (trusted keys: ci-key)"
    assert not reader.output("a").exists()


def test_without_trust_that_is_said(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    project = machine(tmp_path / "one", server, Trust())
    assert project.doit("cache", "audit") == 0
    assert "2 not built (trusted keys: none: every result is used)" in capsys.readouterr().out


def test_a_server_that_is_broken_is_said(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    assert machine(tmp_path / "ci", server, Trust(), writes=True).doit() == 0
    capsys.readouterr()
    server.attack = lambda _: iter([b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"])
    reader = machine(tmp_path / "reader", server, Trust(KEYS))
    assert reader.doit("cache", "audit") == 0
    captured = capsys.readouterr()
    assert "warning: " in captured.err
    assert "2 not built" in captured.out


def test_no_such_task(tmp_path: Path, server: Hostile, capsys: Capture) -> None:
    assert machine(tmp_path, server, Trust()).doit("cache", "audit", "step:x") == 3
    assert "unknown task 'step:x'" in capsys.readouterr().err
