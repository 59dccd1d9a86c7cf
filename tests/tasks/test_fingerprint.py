"""What counts as code, and what does not."""

import textwrap
from pathlib import Path

import pytest

from cache.digest import of_bytes
from cache.local.stat_cache import StatCache
from tasks import fingerprint
from tasks.errors import BuildError
from tasks.fingerprint import Sources, closure
from tasks.plan import KINDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stat(tmp_path: Path) -> StatCache:
    return StatCache(tmp_path / "stat.sqlite")


def project(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(textwrap.dedent(text))
    return root


def test_closure_follows_imports_at_any_depth(tmp_path: Path, stat: StatCache) -> None:
    root = project(
        tmp_path / "p",
        pkg__start="import os\nfrom pkg import near\n",
        pkg__near="def f():\n    from pkg.deep.far import thing\n    return thing\n",
        pkg__deep__far="from . import sibling\nthing = 1\n",
        pkg__deep__sibling="x = 1\n",
        pkg__unrelated="x = 1\n",
    )
    files = closure("pkg.start", Sources(root, stat)).files
    assert set(files) == {
        "pkg/__init__.py", "pkg/start.py", "pkg/near.py",
        "pkg/deep/__init__.py", "pkg/deep/far.py", "pkg/deep/sibling.py",
    }  # fmt: skip
    assert files["pkg/deep/sibling.py"] == of_bytes(b"x = 1\n")


def test_imports_for_types_only_are_not_code(tmp_path: Path, stat: StatCache) -> None:
    root = project(
        tmp_path / "p",
        pkg__start="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pkg.other\n",
        pkg__other="x = 1\n",
    )
    assert "pkg/other.py" not in closure("pkg.start", Sources(root, stat)).files


def test_tools_are_the_distributions_imported_and_declared(tmp_path: Path, stat: StatCache) -> None:
    root = project(tmp_path / "p", pkg__start="import numpy.linalg\nTOOLS = ('ziglang',)\n")
    tools = closure("pkg.start", Sources(root, stat)).tools
    assert set(tools) == {"numpy", "ziglang"}
    assert tools["numpy"] == fingerprint.version("numpy") != "absent"


def test_an_import_nobody_keyed_is_an_error(tmp_path: Path, stat: StatCache) -> None:
    root = project(tmp_path / "p", pkg__start="import leftpad\n")
    with pytest.raises(BuildError, match=r"pkg/start.py imports leftpad"):
        closure("pkg.start", Sources(root, stat))


def test_unreadable_code_is_an_error(tmp_path: Path, stat: StatCache) -> None:
    root = project(tmp_path / "p", pkg__start="def (:\n")
    with pytest.raises(BuildError, match=r"cannot read the code of .*start\.py"):
        closure("pkg.start", Sources(root, stat))


def test_an_edit_is_noticed_through_the_memo(tmp_path: Path, stat: StatCache) -> None:
    root = project(tmp_path / "p", pkg__start="x = 1\n")
    before = closure("pkg.start", Sources(root, stat))
    (root / "pkg/start.py").write_text("x = 2\n")
    after = closure("pkg.start", Sources(root, stat))
    assert before.files["pkg/start.py"] != after.files["pkg/start.py"]


@pytest.mark.parametrize(
    "kind", ["kernels", "convert", "gen_config", "lower", "compile", "verify", "package"]
)
def test_each_action_of_the_project_can_be_keyed(kind: str, stat: StatCache) -> None:
    code = closure(f"tasks.actions.{kind}", Sources(ROOT, stat))
    assert f"tasks/actions/{kind}.py" in code.files
    assert not any(path.startswith("cache/") for path in code.files)
    assert {path for path in code.files if path.startswith("tasks/")} == {
        "tasks/__init__.py", "tasks/actions/__init__.py", "tasks/actions/__main__.py",
        f"tasks/actions/{kind}.py",
    }  # fmt: skip


def test_only_lowering_depends_on_the_model(stat: StatCache) -> None:
    kinds = ("inspect", "kernels", "convert", "gen_config", "lower", "compile", "verify", "package")
    depend = [
        k
        for k in kinds
        if "olmo/modeling/model.py" in closure(f"tasks.actions.{k}", Sources(ROOT, stat)).files
    ]
    assert depend == ["lower"]


def test_actions_import_nothing_dynamically(stat: StatCache) -> None:
    """What the closure cannot see must not be there."""
    kinds = (
        "inspect",
        "download",
        "kernels",
        "convert",
        "gen_config",
        "lower",
        "compile",
        "verify",
    )
    for kind in kinds:
        for path in closure(f"tasks.actions.{kind}", Sources(ROOT, stat)).files:
            text = (ROOT / path).read_text()
            if path in ("olmo/__init__.py", "tasks/actions/__main__.py"):
                continue  # lazy public names, and the one action that is asked for
            assert "import_module" not in text, path
            assert "__import__" not in text, path


def test_conversion_depends_on_neither_the_compiler_nor_the_model(stat: StatCache) -> None:
    code = closure("tasks.actions.convert", Sources(ROOT, stat))
    absent = {
        "olmo/modeling/model.py",
        "olmo/codecs/codec_kernels.py",
        "olmo/targets.py",
        "olmo/toolchains/link.py",
    }
    assert not absent & set(code.files)
    assert "apache-tvm" not in code.tools


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("package", "weights")])
def test_a_new_row_of_a_table_leaves_keys_as_they_are(stat: StatCache, kind: str) -> None:
    """Targets and quantizations are in the parameters of a node, their tables in no node's code."""
    files = closure(f"tasks.actions.{kind}", Sources(ROOT, stat)).files
    assert not {"olmo/quantizations.py", "olmo/targets.py"} & set(files)


def test_kernels_depend_on_neither_weights_nor_quantizations(stat: StatCache) -> None:
    assert set(closure("tasks.actions.kernels", Sources(ROOT, stat)).files) == {
        "olmo/__init__.py", "olmo/errors.py",
        "olmo/codecs/__init__.py", "olmo/codecs/codec.py", "olmo/codecs/codec_kernels.py",
        "olmo/codecs/float8_formats.py", "olmo/codecs/float_kernels.py",
        "olmo/codecs/kernel_library.py",
        "olmo/toolchains/__init__.py", "olmo/toolchains/link.py", "olmo/toolchains/zig.py",
        "tasks/__init__.py", "tasks/actions/__init__.py", "tasks/actions/__main__.py",
        "tasks/actions/kernels.py",
    }  # fmt: skip
