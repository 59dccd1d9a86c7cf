"""Before a run begins it is known whether what it will execute fits into memory."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo.errors import OlmoError
from olmo.verification import memory as memory_of
from tasks import memory
from tasks.graph import open_session
from tasks.session import Session
from tests.clone import PUB_A

MIB = 1 << 20
MODEL = """
[models.{name}]
source = "local"
path = "{name}"
conv_template = "LM"
"""
RELEASE = """
[[release]]
models = ["small", "large"]
quantizations = ["q0f32"]
windows = [64, 128]
targets = ["linux-x86_64-cpu", "windows-x86_64-cpu"]
"""
SMALL, LARGE = 301 * MIB, 326 * MIB  # to verify in q0f32, rounded up


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Two models, of which nothing is built; their libraries for Windows are only looked at."""
    for name, vocabulary in (("small", 320), ("large", 320 * 64)):
        shutil.copytree(PUB_A, tmp_path / name)
        config: dict[str, Any] = json.loads((PUB_A / "config.json").read_bytes())
        text = json.dumps(config | {"vocab_size": vocabulary})
        (tmp_path / name / "config.json").write_text(text)
    matrix = MODEL.format(name="small") + MODEL.format(name="large") + RELEASE
    (tmp_path / "matrix.toml").write_text(matrix)
    made = open_session(tmp_path, {"OLMILL_CACHE_DIR": str(tmp_path / "cache")})
    made.decide(lambda _: {})
    free(monkeypatch, 8192 * MIB)
    return made


def free(monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    for module in (memory, memory_of):
        monkeypatch.setattr(module, "available", lambda: size)


def check(session: Session, *, at_once: int = 1, only: str = "") -> str | None:
    names = [name for name in session.workspace.graph.nodes if only in name]
    return memory.check_verifications(session, names, at_once)


def test_what_fits_is_not_mentioned(session: Session) -> None:
    assert check(session, at_once=16) is None


def test_what_does_not_fit_is_refused_by_name(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, LARGE - 10 * MIB)
    with pytest.raises(OlmoError, match=r"^verify:large:q0f32:64:linux-x86_64-cpu: running a"):
        check(session)
    assert check(session, only="small") is None


def test_of_several_at_once_the_largest_have_to_fit(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 2 * LARGE + SMALL)
    assert check(session, at_once=3) is None
    warned = "verifying 4 libraries at a time may take 1.2 GiB of memory, and 0.9 GiB are free here"
    assert check(session, at_once=4) == f"{warned}: doit -n 3 is safe"
    assert check(session, at_once=64) == check(session, at_once=4)  # there are four
    assert check(session, at_once=64, only="small") is None


@pytest.mark.parametrize("at_once", [1, 4])
def test_where_nobody_knows_nothing_is_said(
    session: Session, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    free(monkeypatch, None)
    assert check(session, at_once=at_once) is None


def test_what_is_not_run_takes_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    for only in ("windows", "compile", "package"):
        assert check(session, only=only) is None


@pytest.mark.parametrize("broken", ["missing", "cut off"])
def test_a_model_that_is_not_known_yet_is_asked_about_later(
    session: Session, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    free(monkeypatch, 0)
    for name in ("small", "large"):
        config = session.workspace.root / name / "config.json"
        if broken == "missing":
            config.unlink()
        else:
            config.write_bytes(config.read_bytes()[:100])
    assert check(session) is None


def test_each_model_is_looked_at_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(memory, "_config", lambda _root, model: read.append(model.name))
    assert check(session) is None
    assert sorted(read) == ["large", "small"]
