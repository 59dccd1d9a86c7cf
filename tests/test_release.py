"""What is released, on the real chain: where it comes from is said, and holds."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.clone import Clone, clone

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
"""
ROW = "m:q0f32:256:linux-x86_64-cpu"
NAME = "m-q0f32-ctx256-linux-x86_64-cpu"
SHARD = "m-q0f32-ctx256-MLC/params_shard_0.bin"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    clone(base / "project", base / "store", MATRIX).build()
    return base / "store"


@pytest.fixture
def project(store: Path, tmp_path: Path) -> Clone:
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


def test_a_statement_names_all_that_a_row_comes_from(project: Clone) -> None:
    found = provenance(project)
    subjects = {subject["name"] for subject in found["subject"]}
    assert {SHARD, f"libs/{NAME}.so", f"libs/{NAME}.json"} < subjects
    assert subjects == {name for name in project.dist() if not name.startswith("provenance/")}
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
    assert str(project.root) not in text
    assert re.search(r"\d\d:\d\d:\d\d", text) is None


def test_every_machine_writes_the_same(project: Clone, store: Path, tmp_path: Path) -> None:
    another = clone(tmp_path / "another", store, MATRIX, {"TZ": "Asia/Kathmandu"})
    another.build("-n", "2")
    assert another.dist() == project.dist()
    shutil.rmtree(another.root / "dist/provenance")
    another.build()
    assert another.dist() == project.dist()


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


def test_what_was_not_made_again_has_no_statement(project: Clone) -> None:
    project.edit("tasks/actions/lower.py", lambda text: text + "\nraise RuntimeError\n")
    assert project.doit().returncode != 0
    assert not (project.root / f"dist/provenance/{NAME}.json").exists()
    assert (project.root / f"dist/libs/{NAME}.so").exists()


def test_clean_removes_the_statement_too(project: Clone) -> None:
    assert project.doit("clean", "package").returncode == 0
    assert not (project.root / "dist").exists()


def test_rows_that_are_right(project: Clone) -> None:
    line = f"right  {ROW}: 8 files, 9 actions\n"
    for arguments in ((), (ROW,), ("m:q0f32",), (f"package:{ROW}",)):
        assert check(project, *arguments) == line
    done = project.doit("verify", "--provenance", "n")
    assert done.returncode == 3
    assert "unknown row 'n'" in done.stderr


def test_a_file_that_was_changed(project: Clone) -> None:
    path = project.root / "dist" / SHARD
    path.unlink()
    path.write_bytes(b"other")
    assert "is cached: output m-q0f32-ctx256-MLC/params_shard_0.bin" in check(project, code=1)
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
    path.unlink()
    assert f"{NAME}.json: No such file" in check(project, code=1)
    project.build()
    check(project)


def test_a_directory_from_elsewhere(project: Clone, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.root / "dist", copy)
    shutil.rmtree(project.root / "dist")
    shutil.rmtree(project.root / "build")
    assert check(project, str(copy)).startswith("right  ")


def test_without_the_option_it_runs_the_tasks_that_verify(project: Clone) -> None:
    done = project.doit("verify")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("8 nodes: 8 local, 0 remote, 0 built (")
