"""What is released, on the real chain: where it comes from is said and holds, and it is published."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import jsonschema
import pytest

from cache import signing
from tasks.releasing.envelope import sealed
from tests.cache.signers import SEED, signer
from tests.clone import Clone, clone
from tests.first_build import FirstBuild
from tests.tasks.writable_hub import READER, WRITER, Repository, WritableHub, writable

ROOT = Path(__file__).resolve().parents[1]
MATRIX = """
[models.m]
source = "local"
path = "checkpoint"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu"]

[publish]
repo = "org/{model}-{quantization}-ctx{window}-MLC"
"""
ROW = "m:q0f32:256:linux-x86_64-cpu"
NAME = "m-q0f32-ctx256-linux-x86_64-cpu"
REPO = "org/m-q0f32-ctx256-MLC"
SHARD = "m-q0f32-ctx256-MLC/params_shard_0.bin"


@pytest.fixture(scope="module")
def store(first: FirstBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first.store(tmp_path_factory.mktemp("base") / "store")


@pytest.fixture(scope="module")
def released(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A project in which all is built, for tests that change nothing in it."""
    made = clone(tmp_path_factory.mktemp("released") / "project", store, MATRIX)
    assert made.build() == set()
    return made


@pytest.fixture
def project(store: Path, tmp_path: Path) -> Clone:
    """The same, for tests that do."""
    made = clone(tmp_path / "elsewhere", store, MATRIX)
    assert made.build() == set()
    return made


def provenance(project: Clone) -> Any:
    return json.loads((project.root / f"dist/provenance/{NAME}.json").read_bytes())


def check(project: Clone, *arguments: str, code: int = 0) -> str:
    done = project.doit("verify", "--provenance", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_a_report_tells_it_alike_wherever_it_was_built(
    project: Clone, store: Path, tmp_path: Path
) -> None:
    other = clone(tmp_path / "other", store, MATRIX)
    other.build()
    for form in ("json", "html", "markdown"):
        told = project.doit("report", "--format", form)
        assert told.returncode == 0, told.stderr
        assert told.stdout == other.doit("report", "--format", form).stdout
        assert str(tmp_path) not in told.stdout
    found = json.loads(project.doit("report", "--format", "json").stdout)
    jsonschema.validate(found, json.loads((ROOT / "docs/report.schema.json").read_bytes()))
    (cell,) = found["cells"]
    assert (cell["state"], cell["verified"]["state"]) == ("built", "executed")
    assert cell["seconds"] > 0
    assert set(cell["files"].values()) <= set(project.dist())
    assert cell["files"]["provenance"] == f"provenance/{NAME}.json"
    (conversion,) = found["conversions"]
    assert conversion["bytes"] == cell["weights"]


def test_a_statement_names_all_that_a_row_comes_from(released: Clone) -> None:
    found = provenance(released)
    subjects = {subject["name"] for subject in found["subject"]}
    assert {SHARD, f"libs/{NAME}.so", f"libs/{NAME}.json"} < subjects
    assert subjects == {name for name in released.dist() if not name.startswith("provenance/")}
    definition = found["predicate"]["buildDefinition"]
    kinds = {name.partition(":")[0] for name in definition["internalParameters"]["actions"]}
    assert kinds == {
        "download", "kernels", "convert", "gen_config", "lower", "compile", "verify", "package",
    }  # fmt: skip
    named = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert {"source:m/model.safetensors", "code/tasks.actions.lower"} < named.keys()
    assert named["tool/apache-tvm"]["uri"].startswith("pkg:pypi/apache-tvm@0.")
    assert definition["externalParameters"]["row"]["quantization"] == "q0f32"
    products = {one["name"] for one in found["predicate"]["runDetails"]["byproducts"]}
    assert f"verify:{ROW}/report.json" in products
    text = json.dumps(found)
    assert str(released.root) not in text
    assert re.search(r"\d\d:\d\d:\d\d", text) is None


def test_every_machine_writes_the_same(released: Clone, store: Path, tmp_path: Path) -> None:
    another = clone(tmp_path / "another", store, MATRIX, {"TZ": "Asia/Kathmandu"})
    another.build("-n", "2")
    assert another.dist() == released.dist()
    shutil.rmtree(another.root / "dist/provenance")
    another.build()
    assert another.dist() == released.dist()


def test_code_that_makes_the_same_changes_the_statement_alone(project: Clone) -> None:
    before, dist = provenance(project), project.dist()
    project.edit("tasks/actions/lower.py", lambda text: text + "\nUNUSED = 1\n")
    assert "it is waiting: unknown until" in check(project, code=1)
    assert project.build() == {"lower:m:q0f32:256:llvm"}
    after = provenance(project)
    assert before["subject"] == after["subject"]
    changed = {name for name, data in project.dist().items() if dist[name] != data}
    assert changed == {f"provenance/{NAME}.json"}
    actions = [
        found["predicate"]["buildDefinition"]["internalParameters"]["actions"]
        for found in (before, after)
    ]
    differing = {name for name in actions[0] if actions[0][name] != actions[1][name]}
    assert differing == {"lower:m:q0f32:256:llvm"}
    check(project)

    project.edit("tasks/actions/lower.py", lambda text: text + "\nALSO_UNUSED = 1\n")
    project.build("lower")  # after it nothing is stale, and the statement is of the code before
    assert "actions lower:m:q0f32:256:llvm" in check(project, code=1)
    assert project.build() == set()
    check(project)


def test_what_was_not_made_again_has_no_statement(project: Clone) -> None:
    project.edit("tasks/actions/lower.py", lambda text: text + "\nraise RuntimeError\n")
    assert project.doit().returncode != 0
    assert not (project.root / f"dist/provenance/{NAME}.json").exists()
    assert (project.root / f"dist/libs/{NAME}.so").exists()


def test_clean_removes_the_statement_too(project: Clone) -> None:
    assert project.doit("clean", "package").returncode == 0
    assert not (project.root / "dist").exists()


def test_rows_that_are_right(released: Clone) -> None:
    line = f"right  {ROW}: 8 files, 9 actions\n"
    assert check(released) == line
    assert check(released, "m:q0f32", f"package:{ROW}") == line
    key = base64.b64encode(bytes(32)).decode()
    trusting = Clone(released.root, released.cache, {"OLMILL_TRUSTED_KEYS": f"ci={key}"})
    assert check(trusting) == line.replace("actions", "actions, built here")
    done = released.doit("verify", "--provenance", "n")
    assert done.returncode == 3
    assert "unknown row 'n'" in done.stderr


def test_a_file_that_was_changed(project: Clone) -> None:
    path = project.root / "dist" / SHARD
    path.unlink()
    path.write_bytes(b"other")
    assert f"  output {SHARD} has changed; run doit" in check(project, code=1)
    assert f"  {SHARD} is another file: sha256" in check(project, "dist", code=1)
    project.build()
    check(project, "dist")


def test_a_statement_that_was_changed(project: Clone) -> None:
    path = project.root / f"dist/provenance/{NAME}.json"
    text = path.read_text()
    for before, after, message in (
        ("pkg:pypi/apache-tvm@", "pkg:pypi/apache-tvm@9", "tool/apache-tvm uri: pkg:pypi"),
        ('"quantization":"q0f32"', '"quantization":"q4f16_1"', "row quantization: q4f16_1 in its"),
        ('{"_type"', '{ "_type"', "is not written as Olmill writes it"),
    ):
        path.unlink()
        path.write_text(text.replace(before, after, 1))
        assert message in check(project, code=1)
    assert project.build() == set()
    assert path.read_text() == text
    path.unlink()
    assert f"{NAME}.json: No such file" in check(project, code=1)
    project.build()
    check(project)


def test_a_directory_from_elsewhere(released: Clone, store: Path, tmp_path: Path) -> None:
    shutil.copytree(released.root / "dist", tmp_path / "copy")
    nothing_built = clone(tmp_path / "elsewhere", store, MATRIX)
    assert check(nothing_built, str(tmp_path / "copy")).startswith("right  ")


def test_without_the_option_it_runs_the_tasks_that_verify(released: Clone) -> None:
    done = released.doit("verify")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("8 nodes: 8 local, 0 remote, 0 built")


@pytest.fixture
def hub() -> Iterator[WritableHub]:
    with writable() as served:
        yield served


Publish = Callable[..., CompletedProcess[str]]


def publishing(project: Clone, hub: WritableHub, home: Path) -> Publish:
    """Return `doit publish` against the Hub of the test, with a token or without."""

    def run(
        *arguments: str, token: str = WRITER, code: int = 0, **more: str
    ) -> CompletedProcess[str]:
        environment = {
            **more,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",  # this Hub has LFS alone
        }
        done = Clone(project.root, project.cache, environment).doit("publish", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert WRITER not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def publish(released: Clone, hub: WritableHub, tmp_path: Path) -> Publish:
    return publishing(released, hub, tmp_path / "hf")


def repository_of(released: Clone) -> dict[str, bytes]:
    directory = "m-q0f32-ctx256-MLC/"
    return {name.removeprefix(directory): data for name, data in released.dist().items()}


def test_publishing_shows_what_it_would_do_and_sends_nothing(
    released: Clone, hub: WritableHub, publish: Publish
) -> None:
    done = publish(token="")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{REPO} (new, private)"
    assert len(lines) == 1 + len(released.dist())
    assert all(line.startswith("  add    ") for line in lines[1:])
    assert "nothing was sent" in done.stderr
    (value,) = json.loads(publish("--json").stdout)
    assert (value["repo"], value["exists"], value["delete"]) == (REPO, False, {})
    assert value["add"].keys() == repository_of(released).keys()
    assert hub.sent("") == 0


def test_publishing_is_one_commit_of_what_changed(
    released: Clone, hub: WritableHub, publish: Publish, tmp_path: Path
) -> None:
    done = publish("--push")
    repository = hub.repositories[REPO]
    assert repository.private
    assert {**repository_of(released), ".gitattributes": b"*.bin lfs\n"} == repository.files
    (commit,) = repository.commits
    assert commit["summary"] == f"{len(released.dist())} added by Olmill"
    assert commit["description"].startswith(f"{ROW} ")
    assert f"sent   {REPO}: {hub.endpoint}/{REPO}/commit/" in done.stderr

    hub.log.clear()
    assert publish("--push").stdout == f"{REPO}\n  nothing to do\n"
    assert hub.sent("") == 0

    repository.files |= {
        "libs/of-another-target.so": b"old",
        "params_shard_9.bin": b"old",
        "README.md": b"by hand",
        "mlc-chat-config.json": b"changed there",
    }
    lines = publish("--push").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["change", "mlc-chat-config.json"],
        ["delete", "libs/of-another-target.so"],
        ["delete", "params_shard_9.bin"],
    ]
    assert repository.commits[-1]["summary"] == "1 changed, 2 deleted by Olmill"
    assert hub.asked("PUT", "/upload/") == []  # no large file was sent again
    kept = {".gitattributes": b"*.bin lfs\n", "README.md": b"by hand"}
    assert repository.files == {**repository_of(released), **kept}

    downloaded = tmp_path / "downloaded"
    for name, data in repository.files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(data)
    check(released, str(downloaded))


def test_what_is_published_is_signed_by_who_has_a_key(
    released: Clone, hub: WritableHub, publish: Publish, tmp_path: Path
) -> None:
    """And dist/ is the same with a key and without."""
    ci = signer("ci")
    trust = {"OLMILL_TRUSTED_KEYS": f"ci={signing.write_public(ci.public)}"}
    key = {"OLMILL_SIGNING_KEY": base64.b64encode(SEED).decode()}
    envelope = f"provenance/{NAME}.intoto.jsonl"

    told = publish("--push", code=3, **trust).stderr
    assert "what is published would not be believed without a signature" in told
    publish("--push", **trust, **key)
    files = hub.repositories[REPO].files
    assert files.keys() - repository_of(released).keys() == {envelope, ".gitattributes"}
    assert files[envelope] == sealed(files[f"provenance/{NAME}.json"], ci)
    assert publish("--push", **trust, **key).stdout == f"{REPO}\n  nothing to do\n"
    shown = publish(**trust)  # who has no key sees the rest
    assert shown.stdout == f"{REPO}\n  nothing to do\n"
    assert "signatures are not shown: OLMILL_SIGNING_KEY is no trusted key" in shown.stderr

    downloaded = tmp_path / "downloaded"
    for name, data in files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(data)
    reader = Clone(released.root, released.cache, trust)
    assert check(reader, str(downloaded)).endswith(", signed by ci\n")
    (downloaded / envelope).unlink()
    assert "it is not signed, and only what ci signed" in check(reader, str(downloaded), code=1)

    assert publish().stdout.splitlines()[1].split()[:2] == ["delete", envelope]  # nobody's any more


def test_what_is_not_right_is_not_published(
    project: Clone, hub: WritableHub, tmp_path: Path
) -> None:
    publish = publishing(project, hub, tmp_path / "hf")
    shard = project.root / "dist" / SHARD
    shard.unlink()
    shard.write_bytes(b"other")
    told = publish("--push", code=1).stderr
    assert f"refused, and nothing was sent:\n{ROW}\n  output {SHARD} has changed; run doit" in told

    project.edit("matrix.toml", lambda text: text + 'verified = "executed"\n')
    less = '    report = {**report, "state": "checked", "how": "by eye"}\n    (outputs /'
    project.edit("tasks/actions/verify.py", lambda text: text.replace("    (outputs /", less))
    project.build()
    told = publish("--push", code=1).stderr
    assert f"{ROW}\n  checked: by eye; [publish] wants it executed\n" in told

    project.edit("tasks/actions/compile.py", lambda text: text + "\nraise RuntimeError\n")
    assert project.doit().returncode != 0
    assert "it is waiting: unknown until compile:" in publish("--push", code=1).stderr
    assert hub.log == []


def test_without_a_token_or_with_one_that_may_not_write(hub: WritableHub, publish: Publish) -> None:
    told = publish("--push", token="", code=1).stderr
    assert "error: the Hub takes nothing without a token\nhint: set HF_TOKEN" in told
    told = publish("--push", token=READER, code=1).stderr
    assert f"error: {REPO}: cannot create it: the Hub answered 403 (this token cannot" in told
    assert f"0 of 1 sent; not: {REPO}" in told
    hub.repositories[REPO] = Repository()
    told = publish("--push", token="nobody", code=1).stderr  # noqa: S106  (no token)
    assert f"error: {REPO}: cannot write to it: the Hub answered 401 (Invalid cred" in told
    assert hub.repositories[REPO].commits == []


def test_a_repository_that_is_changed_meanwhile(hub: WritableHub, publish: Publish) -> None:
    hub.repositories[REPO] = Repository()
    hub.meanwhile = REPO
    told = publish("--push", code=1).stderr
    assert "the Hub answered 412" in told
    assert "hint: it was changed meanwhile: run it again" in told
    assert hub.repositories[REPO].files == {}
    publish("--push")
    assert len(hub.repositories[REPO].commits) == 2


def test_a_failed_upload_makes_no_commit(hub: WritableHub, publish: Publish) -> None:
    hub.repositories[REPO] = Repository()
    hub.refuse = ("/upload/", 403)
    assert "cannot write to it" in publish("--push", code=1).stderr
    assert hub.repositories[REPO].commits == []


def test_a_hub_that_is_not_there(publish: Publish, hub: WritableHub) -> None:
    hub.port = 1
    assert "hint: check the network and HF_ENDPOINT (http://127.0.0.1:1)" in publish(code=1).stderr
