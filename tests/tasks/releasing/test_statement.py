"""Files of a release held against the statements that come with them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cache.action import ActionResult
from cache.digest import of_bytes
from cache.tiered import Claim
from cache.trust import Judgement, Trust, Verdict
from tasks.commands.verify import builders, check_directory
from tasks.errors import BuildError
from tasks.releasing.envelope import beside, sealed
from tasks.releasing.provenance import BUILD_TYPE, PREDICATE, STATEMENT
from tasks.releasing.statement import changes, differences, in_directory, read
from tests.cache.signers import another

CI = another("ci")
KEYS = {"ci": CI.public, "old": another("old").public}
FILES = {
    "m-q-ctx1-MLC/mlc-chat-config.json": b"{}",
    "m-q-ctx1-MLC/params_shard_0.bin": b"weights",
    "libs/m-q-ctx1-t.so": b"library",
    "libs/m-q-ctx1-t.json": b"manifest",
}


def of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def value() -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
            for name, data in sorted(FILES.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "internalParameters": {"actions": {"compile:m": "1" * 64}},
            }
        },
    }


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    root = tmp_path / "dist"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "provenance").mkdir()
    (root / "provenance/m-q-ctx1-t.json").write_text(json.dumps(value()))
    return root


@pytest.fixture
def repository(dist: Path) -> Path:
    """The same release as it lies in a repository of the Hub."""
    root = dist.with_name("repository")
    shutil.copytree(dist / "m-q-ctx1-MLC", root)
    for name in ("libs", "provenance"):
        shutil.copytree(dist / name, root / name)
    (root / "README.md").write_text("# A model\n")
    return root


@pytest.mark.parametrize("layout", ["dist", "repository"])
def test_a_release_as_it_was_made(layout: str, request: pytest.FixtureRequest) -> None:
    assert check_directory(request.getfixturevalue(layout), {}) == 0


@pytest.mark.parametrize("layout", ["dist", "repository"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_another_or_gone(
    layout: str, name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    root = request.getfixturevalue(layout)
    if layout == "repository":
        name = name.removeprefix("m-q-ctx1-MLC/")
    if name != "mlc-chat-config.json":  # without it, it is no repository
        (root / name).unlink()
        assert check_directory(root, {}) > 0
        assert f"{name} is missing" in capsys.readouterr().out
    (root / name).write_bytes(b"other")
    assert check_directory(root, {}) == 1
    shown = capsys.readouterr().out
    assert f"  {name} is another file: sha256 {hashlib.sha256(b'other').hexdigest()[:16]}…" in shown


def test_a_file_that_no_provenance_names(dist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dist / "libs/another.so").write_bytes(b"?")
    (dist / "LICENSE").write_text("MIT")
    (dist / "LICENSE.so").write_bytes(b"?")
    (dist / "links").symlink_to(dist.parent)
    (dist / "leads").symlink_to("nowhere")
    assert check_directory(dist, {}) == 4
    told = capsys.readouterr().out
    for name in ("libs/another.so", "LICENSE.so", "links", "leads"):
        assert f"{name}\n  no provenance names it" in told


def without(*keys: str) -> Any:
    changed: Any = value()
    place = changed
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return changed


def renamed(name: str) -> Any:
    changed = value()
    changed["subject"][0]["name"] = name
    return changed


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        without("_type"),
        without("predicate", "buildDefinition", "buildType"),
        without("predicate", "buildDefinition", "internalParameters", "actions"),
        {**value(), "subject": []},
        {**value(), "subject": value()["subject"] * 2},
        {**value(), "subject": [{"name": "libs/a", "digest": {"sha256": 1}}]},
        {**value(), "predicateType": "https://slsa.dev/provenance/v0.2"},
        renamed("../outside"),
        renamed("/etc/passwd"),
    ],
)
def test_what_is_no_statement(dist: Path, wrong: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = in_directory(dist)
    path.write_bytes(wrong if isinstance(wrong, bytes) else json.dumps(wrong).encode())
    with pytest.raises(BuildError, match=r"m-q-ctx1-t\.json"):
        read(path)
    assert check_directory(dist, {}) > 0
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["dist", "repository"])
def test_a_signed_release(
    layout: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    root = request.getfixturevalue(layout)
    (path,) = in_directory(root)
    assert check_directory(root, KEYS) == 1
    told = capsys.readouterr().out
    assert "  it is not signed, and only what ci or old signed is believed\n  hint: what" in told
    envelope = beside(path)
    envelope.write_bytes(sealed(path.read_bytes(), CI))
    assert check_directory(root, KEYS) == 0
    assert capsys.readouterr().out.endswith(": 4 files, 1 actions, signed by ci\n")
    assert check_directory(root, {}) == 0  # nobody says whose signature it has to be
    assert "actions, signature not checked, for no keys are trusted\n" in capsys.readouterr().out
    assert check_directory(root, {"old": KEYS["old"]}) == 1
    told = capsys.readouterr().out
    assert "m-q-ctx1-t.intoto.jsonl: it is signed by no trusted key, and only what old" in told

    path.write_bytes(path.read_bytes().replace(b"compile:m", b"compile:n"))
    for keys in (KEYS, {}):
        assert check_directory(root, keys) == 1
        assert "m-q-ctx1-t.intoto.jsonl: it is the envelope of another" in capsys.readouterr().out
    envelope.rename(envelope.with_name("other.intoto.jsonl"))
    assert check_directory(root, {}) == 1
    assert "other.intoto.jsonl\n  no provenance names it" in capsys.readouterr().out


def test_a_statement_of_another_library(dist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = in_directory(dist)
    shutil.copy(path, path.with_name("m-q-ctx2-t.json"))
    assert check_directory(dist, {}) == 1
    told = "ctx2-t.json is the provenance of another library, m-q-ctx1-t\n"
    assert told in capsys.readouterr().out


def test_names_that_a_terminal_would_obey_or_nobody_can_write(
    dist: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (dist / "libs" / "\x1b[2Jclear").write_bytes(b"?")
    (dist / "libs" / "no-text-\udcff").write_bytes(b"?")
    assert check_directory(dist, {}) == 2
    told = capfdbinary.readouterr().out.decode()
    assert "\x1b" not in told
    assert "libs/clear\n" in told
    assert "libs/no-text-" in told


def test_a_directory_without_provenance(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"has no provenance/\*\.json"):
        in_directory(tmp_path)


def test_differences_name_every_file_once(dist: Path) -> None:
    (path,) = in_directory(dist)
    shutil.rmtree(dist / "libs")
    wrong, paths = differences(dist, read(path), of_file)
    assert wrong == ["libs/m-q-ctx1-t.json is missing", "libs/m-q-ctx1-t.so is missing"]
    assert paths == [dist / name for name in sorted(FILES)]


def test_changes_are_told_field_by_field() -> None:
    before = {"tools": [{"name": "tvm", "uri": "1"}, {"name": "gone", "uri": "1"}], "same": [1]}
    after = {"tools": [{"name": "tvm", "uri": "2"}], "same": [1]}
    assert changes(before, after) == [
        'tools gone: {"uri": "1"} in its provenance, nothing by the matrix',
        "tools tvm uri: 1 in its provenance, 2 by the matrix",
    ]


def test_who_built_it_is_said_by_signatures() -> None:
    result = ActionResult({"outputs/a": of_bytes(b"")})

    def claim(verdict: Verdict, builder: str | None = None) -> Claim:
        signer = None if builder is None else "ci"
        return Claim(result, local=False, judgement=Judgement(verdict, builder, signer))

    trust = Trust({"ci": b"1" * 32})
    trusted, own = claim(Verdict.TRUSTED, "github"), claim(Verdict.BUILT)
    unsigned = claim(Verdict.UNSIGNED)
    assert builders({"a": [trusted], "b": [own], "c": [unsigned, trusted]}, trust) == (
        [],
        "built by github (key ci) and here",
    )
    wrong, told = builders({"a": [trusted], "b": [unsigned], "c": []}, trust)
    only = "only what is built here or signed by ci is believed"
    assert wrong == [
        f"b: its result is not signed, and {only}",
        f"c: its result is in no cache any more, and {only}",
    ]
    assert told == "built by github (key ci)"
