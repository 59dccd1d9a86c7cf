import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from olmo.compilation.compile import compile_library
from olmo.errors import OlmoError
from olmo.generation.runtime import Engine
from olmo.targets import custom
from tests.olmo.conftest import Library
from tests.olmo.libraries import Built

ROOT = Path(__file__).parents[3]
COMPILE = """
import os, pathlib
from olmo.compilation.compile import compile_library
from olmo.generation.runtime import Engine
from olmo.targets import target
os.umask(0o077)
pathlib.Path("work").mkdir()
read = lambda name: pathlib.Path(name).read_bytes()
compile_library(
    read("module"), read("metadata"), target("linux-x86_64-cpu"), pathlib.Path("other-name.so"),
    work=pathlib.Path("work"),
)
"""


@pytest.fixture
def library(built: Library) -> Built:
    return built("pub-b", "q4f16_1")


def test_another_process_and_directory_give_the_same_library(
    library: Built, tmp_path: Path
) -> None:
    (tmp_path / "module").write_bytes(library.module)
    (tmp_path / "metadata").write_bytes(library.metadata)
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "99",
        "PYTHONPATH": str(ROOT),
        "TVM_NUM_THREADS": "1",
        "TZ": "Asia/Tokyo",
    }
    subprocess.run([sys.executable, "-c", COMPILE], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "other-name.so").read_bytes() == library.library.read_bytes()


def test_the_library_names_no_path(library: Built) -> None:
    data = library.library.read_bytes()
    for part in (str(ROOT), str(library.library.parent), "/tmp/", "site-packages", "olmo/"):  # noqa: S108  is to be absent
        assert part.encode() not in data, part


def test_a_processor_that_llvm_does_not_know(tmp_path: Path) -> None:
    mine = custom("mine", "linux-x86_64-cpu", {"mcpu": "x86-64-v33"})
    with pytest.raises(OlmoError) as caught:
        compile_library(b"", b"{}", mine, tmp_path / "library.so", work=tmp_path)
    assert str(caught.value) == "unknown mcpu of x86_64-unknown-linux-gnu 'x86-64-v33'"
    assert caught.value.hint == "did you mean 'x86-64-v3'?"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("feature", ["+avx512ff", "-avx512ff"])
def test_a_feature_that_llvm_does_not_know(tmp_path: Path, feature: str) -> None:
    mine = custom("mine", "linux-x86_64-cpu", {"mattr": ["+avx512f", "-fma", feature]})
    with pytest.raises(OlmoError) as caught:
        compile_library(b"", b"{}", mine, tmp_path / "library.so", work=tmp_path)
    assert str(caught.value) == "unknown feature of x86_64-unknown-linux-gnu in mattr 'avx512ff'"
    assert caught.value.hint == "did you mean 'avx512f'?"
    assert list(tmp_path.iterdir()) == []


def test_an_older_processor_is_another_library(library: Built, tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "library.so"
    work.mkdir()
    baseline = custom("baseline", "linux-x86_64-cpu", {"mcpu": "x86-64"})
    compile_library(library.module, library.metadata, baseline, output, work=work)
    assert output.read_bytes() != library.library.read_bytes()
    engine = Engine(library.model_dir, output)
    found, expected = engine.prefill(0, [1, 2, 3]), library.engine().prefill(0, [1, 2, 3])
    assert np.abs(found - expected).max() < 2e-2 * np.abs(expected).max()


@pytest.mark.parametrize(
    "module",
    ["compilation.compile", "generation.runtime", "verification.verify", "generation.chat"],
)
def test_the_model_is_not_in_the_import_closure(module: str) -> None:
    """Otherwise renaming a variable of the model would compile or verify again."""
    closure = import_closure(f"olmo.{module}")
    assert "olmo.errors" in closure
    assert not closure & {
        "olmo.modeling.model",
        "olmo.modeling.entrypoints",
        "olmo.modeling.lower",
        "olmo.modeling.quantized_layers",
        "olmo.modeling.kv_cache",
        "olmo.operators.cpu_attention",
        "olmo.operators.cpu_cache_entries",
    }


def test_lowering_knows_nothing_of_compiling() -> None:
    closure = import_closure("olmo.modeling.lower")
    assert "olmo.modeling.model" in closure
    assert not closure & {
        "olmo.compilation.compile",
        "olmo.compilation.cpu_schedule",
        "olmo.compilation.pipeline",
        "olmo.toolchains.link",
    }


def import_closure(module: str) -> set[str]:
    """Return the modules of olmo that `module` imports, directly or not, at any depth."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in found or not path.is_file():
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found
