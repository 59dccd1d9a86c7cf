"""Which nodes of the real chain run after which change, each set exact, and what `doit why` says."""

import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.clone import Clone, clone
from tests.first_build import FirstBuild

MATRIX = """
[models.m]
source = "local"
path = "checkpoint"
conv_template = "LM"

[targets.mine]
base = "linux-x86_64-cpu"
mcpu = "x86-64-v2"

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu", "mine"]
"""
ROWS = {"linux-x86_64-cpu", "mine"}


@pytest.fixture(scope="module")
def store(first: FirstBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds everything of the matrix: what the first build made, and one more target."""
    kinds = {name.partition(":")[0] for name in first.built}
    assert kinds == {
        "download", "kernels", "convert", "gen_config", "lower", "compile", "verify", "package",
    }  # fmt: skip
    base = tmp_path_factory.mktemp("base")
    project = clone(base / "project", first.store(base / "store"), MATRIX)
    mine = {"mine"}
    assert project.build() == (
        rows("compile", targets=mine) | rows("verify", targets=mine) | rows("package", targets=mine)
    )
    return project.cache


@pytest.fixture
def project(store: Path, tmp_path: Path) -> Clone:
    """A fresh clone elsewhere, everything restored."""
    made = clone(tmp_path / "elsewhere", store, MATRIX)
    assert made.build() == set()
    return made


PACKAGE = "package:m:q0f32:256:mine"


def causes(project: Clone, task: str = PACKAGE, *options: str) -> set[str]:
    """What `doit why` draws as the ends of its chains."""
    told = project.doit("why", task, *options)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    texts = [line.lstrip("│├└─ ") for line in lines]
    depths = [len(line) - len(text) for line, text in zip(lines, texts, strict=True)]
    return {
        text
        for text, depth, following in zip(texts, depths, [*depths[1:], 0], strict=True)
        if following <= depth and not text.endswith("(see above)")
    }


CURRENT = {f"{PACKAGE} is up to date"}


def rows(kind: str, window: int = 256, targets: set[str] = ROWS) -> set[str]:
    return {f"{kind}:m:q0f32:{window}:{target}" for target in targets}


def test_a_fresh_clone_elsewhere_runs_nothing(project: Clone) -> None:
    assert (project.root / "dist/m-q0f32-ctx256-MLC/tensor-cache.json").is_file()
    assert (project.root / "dist/libs/m-q0f32-ctx256-mine.so").is_file()


def test_the_conversation_template(project: Clone) -> None:
    project.edit("matrix.toml", lambda text: text.replace('"LM"', '"olmo"'))
    assert causes(project) == {"parameter conv_template LM → olmo"}
    assert project.build() == {"gen_config:m:q0f32:256"} | rows("verify") | rows("package")
    assert causes(project) == CURRENT
    assert causes(project, PACKAGE, "--last") == {"parameter conv_template LM → olmo"}


def test_another_window(project: Clone) -> None:
    project.edit("matrix.toml", lambda text: text.replace("[256]", "[256, 512]"))
    assert causes(project) == CURRENT
    row, mine = "package:m:q0f32:512:mine", {"mine"}
    assert causes(project, row) == {"never built here"}
    assert project.build(row) == (
        {"gen_config:m:q0f32:512", "lower:m:q0f32:512:llvm", row}
        | rows("compile", 512, mine)
        | rows("verify", 512, mine)
    )


def test_a_comment_in_the_model(project: Clone) -> None:
    project.edit("olmo/modeling/model.py", lambda text: text + "\n# a comment\n")
    assert causes(project) == CURRENT
    assert project.build() == set()


def test_a_local_variable_of_the_model(project: Clone) -> None:
    def rename(text: str) -> str:
        """Rename the first variable that a method of the model assigns."""
        start = text.index("def forward")
        found = re.search(r"\n        (\w+) = ", text[start:])
        assert found is not None
        end = text.find("\n    def ", start + found.start())
        body = text[start : end if end > 0 else None]
        renamed = re.sub(rf"(?<![.\w]){found[1]}(?!\w|=)", f"{found[1]}_renamed", body)
        return text.replace(body, renamed)

    project.edit("olmo/modeling/model.py", rename)
    assert causes(project) == {"code olmo/modeling/model.py changed"}
    assert project.build() == {"lower:m:q0f32:256:llvm"}
    assert causes(project) == CURRENT
    assert causes(project, "lower:m:q0f32:256:llvm", "--last") == {
        "code olmo/modeling/model.py changed"
    }


def test_a_local_variable_of_the_kernels(project: Clone) -> None:
    project.edit("olmo/codecs/codec_kernels.py", lambda text: text.replace("start", "first"))
    assert causes(project) == {"code olmo/codecs/codec_kernels.py changed"}
    assert project.build() == {"kernels:linux-x86_64", "kernels:linux-aarch64"}


def test_one_weight(project: Clone) -> None:
    path = project.root / "checkpoint/model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] += np.float32(0.25)
    save_file(weights, path)
    changed = {"input checkpoint/model.safetensors changed"}
    assert causes(project) == changed
    assert project.build() == {"convert:m:q0f32"} | rows("verify") | rows("package")
    assert causes(project, PACKAGE, "--last") == changed


def test_an_option_of_one_target(project: Clone) -> None:
    project.edit("matrix.toml", lambda text: text.replace('"x86-64-v2"', '"x86-64"'))
    assert causes(project) == {"parameter target.tvm.mcpu x86-64-v2 → x86-64"}
    assert causes(project, "package:m:q0f32:256:linux-x86_64-cpu") == {
        "package:m:q0f32:256:linux-x86_64-cpu is up to date"
    }
    mine = {"mine"}
    assert project.build() == (
        rows("compile", targets=mine) | rows("verify", targets=mine) | rows("package", targets=mine)
    )


def test_touching_every_file(project: Clone) -> None:
    for path in sorted(project.root.rglob("*")):
        path.touch()
    assert causes(project) == CURRENT
    assert project.build() == set()


def test_deleting_what_was_made(project: Clone) -> None:
    before = project.dist()
    shutil.rmtree(project.root / "dist")
    assert causes(project) == {"output libs/m-q0f32-ctx256-mine.json is missing, and 7 more"}
    shutil.rmtree(project.root / "build")
    assert project.build() == set()
    assert project.dist() == before


def test_what_conversion_does_not_read_of_the_config(project: Clone) -> None:
    project.edit(
        "checkpoint/config.json",
        lambda text: text.replace('"rope_theta": 10000.0', '"rope_theta": 20000.0'),
    )
    assert causes(project) == {"input config.json changed, read from checkpoint/config.json"}
    assert project.build("convert", "lower") == {
        "download:m", "gen_config:m:q0f32:256", "lower:m:q0f32:256:llvm",
    }  # fmt: skip


def test_a_tool(project: Clone) -> None:
    """Metadata of another version is found first in the project's own directory."""
    info = project.root / "ziglang-99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ziglang\nVersion: 99\n")
    before = version("ziglang")
    assert causes(project) == {f"tool ziglang {before} → 99"}
    configured = "gen_config:m:q0f32:256"
    assert causes(project, configured) == {f"{configured} is up to date"}


def test_what_is_forgotten_or_not_in_the_matrix(project: Clone) -> None:
    assert project.doit("forget", "compile:m:q0f32:256:mine").returncode == 0
    assert causes(project) == {"forgotten: it runs again"}
    project.edit("matrix.toml", lambda text: text.replace('-cpu", "mine"]', '-cpu"]'))
    assert causes(project) == {f"{PACKAGE} is not in the matrix any more: nothing builds it"}


def test_several_causes_at_once(project: Clone) -> None:
    project.edit("matrix.toml", lambda text: text.replace('"LM"', '"olmo"'))
    project.edit("olmo/modeling/model.py", lambda text: text + "\nNEW = 1\n")
    project.edit("matrix.toml", lambda text: text.replace('"x86-64-v2"', '"x86-64"'))
    assert causes(project) == {
        "parameter conv_template LM → olmo",
        "parameter target.tvm.mcpu x86-64-v2 → x86-64",
        "code olmo/modeling/model.py changed",
    }


def test_nothing_to_do_imports_neither_tvm_nor_numpy(project: Clone) -> None:
    done = project.doit(interpreter=("-X", "importtime"))
    assert done.returncode == 0
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "doit" in modules
    assert not modules & {"tvm", "numpy", "rich", "safetensors", "tokenizers", "huggingface_hub"}
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1
    assert lines[0].startswith("12 nodes: 12 local, 0 remote, 0 built")
