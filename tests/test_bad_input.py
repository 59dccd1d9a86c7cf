"""Mistakes that reach doit: one clear message, a non-zero exit, nothing half-written."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
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

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""

WEIGHTS = "checkpoint/model.safetensors"
TENSOR = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def project(tmp_path: Path, first: FirstBuild) -> Clone:
    """A project that has the kernels of conversion, which no mistake here has anything to do with."""
    return clone(tmp_path / "p", first.kernels(tmp_path / "store"), MATRIX)


def weights(project: Clone, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    path = project.root / WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def config(project: Clone, **changes: object) -> None:
    path = project.root / "checkpoint/config.json"
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not ...}))


def index(project: Clone, file: str) -> None:
    tensors = load_file(project.root / WEIGHTS)
    (project.root / WEIGHTS).rename(project.root / "checkpoint/other.safetensors")
    value = {"metadata": {}, "weight_map": dict.fromkeys(tensors, file)}
    (project.root / "checkpoint/model.safetensors.index.json").write_text(json.dumps(value))


def truncate(project: Clone) -> None:
    path = project.root / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "task", "said"),
    [
        (lambda p: (p.root / WEIGHTS).unlink(), "convert", "checkpoint has no .*safetensors"),
        (truncate, "convert", "model.safetensors.*goes beyond the end"),
        (lambda p: weights(p, lambda t: t.pop(TENSOR)), "convert", TENSOR),
        (lambda p: weights(p, lambda t: t.update(extra=np.zeros(1, np.float32))), "convert", "extra"),
        (lambda p: weights(p, lambda t: t.update({TENSOR: t[TENSOR].T.copy()})), "convert", TENSOR),
        (lambda p: weights(p, lambda t: t.update({TENSOR: t[TENSOR].astype(np.int32)})), "convert", TENSOR),
        (lambda p: weights(p, lambda t: t[TENSOR].__setitem__((0, 0), np.nan)), "convert", TENSOR),
        (lambda p: weights(p, lambda t: t[TENSOR].__setitem__((0, 0), -np.inf)), "convert", TENSOR),
        (lambda p: index(p, "absent.safetensors"), "convert", "absent.safetensors"),
        (lambda p: index(p, "../../etc/passwd"), "convert", r"\.\./\.\./etc/passwd"),
        (lambda p: config(p, hidden_size=...), "download", "config.json.*hidden_size"),
        (lambda p: config(p, model_type="llama"), "download", "model_type is 'llama'"),
        (lambda p: config(p, hidden_size=66), "download", "66 is not divisible by"),
        (lambda p: (p.root / "checkpoint/config.json").write_text("{"), "download", "config.json.*JSON"),
        (lambda p: (p.root / "checkpoint/tokenizer.json").write_text("{"), "gen_config", "tokenizer.json"),
        (lambda p: config(p, rope_parameters={"rope_theta": 5.0}), "gen_config", "rope_theta"),
    ],
)  # fmt: skip
def test_a_broken_checkpoint(
    project: Clone, spoil: Callable[[Clone], object], task: str, said: str
) -> None:
    spoil(project)
    done = project.doit(task)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "defect of Olmill" not in done.stderr
    (failed,) = [n for n, line in enumerate(done.stderr.splitlines()) if line.startswith("FAILED")]
    message = done.stderr.splitlines()[failed + 1]
    assert re.search(said, message), done.stderr
    assert str(project.cache) not in message, "a path of the store means nothing to the user"
    assert not (project.root / "dist").exists()
    assert not list((project.root / "build").glob(f"{task}/**/*.bin"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models", "not valid TOML"),
        (MATRIX.replace("q0f32", "q4f16_l"), "unknown quantization 'q4f16_l'"),
        (MATRIX.replace('"checkpoint"', '"../absent"'), "../absent is not a directory"),
    ],
)
def test_a_broken_matrix(project: Clone, text: str, said: str) -> None:
    (project.root / "matrix.toml").write_text(text)
    done = project.doit()
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_task(project: Clone) -> None:
    done = project.doit("compil")
    assert done.returncode == 3
    assert "compil" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_full(project: Clone) -> None:
    """A limit on file size stands in for the disk: the store's own tests use full ones."""
    done = subprocess.run(
        [sys.executable, "-m", "doit", "convert"],
        cwd=project.root,
        env={**os.environ, "OLMILL_CACHE_DIR": str(project.cache)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{project.cache}: cannot write: File too large" in done.stderr
    assert not (project.root / "build/convert").exists()
    assert project.doit("convert").returncode == 0


def test_a_cache_that_is_no_directory(project: Clone) -> None:
    shutil.rmtree(project.cache)
    project.cache.write_text("in the way")
    done = project.doit("convert")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(project.cache) in done.stderr
    assert "OLMILL_CACHE_DIR" in done.stderr
