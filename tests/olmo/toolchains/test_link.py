import ctypes
import os
from pathlib import Path

import pytest
import tvm
from tvm.script import tirx as T  # noqa: N812  (TVM's own name for it)

from olmo.errors import OlmoError
from olmo.targets import target
from olmo.toolchains.link import link


@T.prim_func(s_tir=True)
def roots(a: T.Buffer((8,), "float32")):  # noqa: ANN201  (TVMScript, not Python)
    T.func_attr({"global_symbol": "roots"})
    for i in T.serial(8):
        with T.sblock("root"):
            j = T.axis.spatial(8, i)
            a[j] = T.exp(a[j])


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One object file that needs the C library's mathematics."""
    path = tmp_path_factory.mktemp("objects") / "lib0.o"
    chosen = tvm.target.Target(dict(target("linux-x86_64-cpu").tvm))
    tvm.tirx.build(tvm.IRModule({"roots": roots}), target=chosen).write_to_file(str(path))
    return [path]


def linked(objects: list[Path], directory: Path, name: str = "library.so") -> Path:
    (directory / "work").mkdir(parents=True)
    link(objects, directory / name, target("linux-x86_64-cpu").triple, directory / "work")
    return directory / name


def test_the_library_loads_and_names_what_it_needs(objects: list[Path], tmp_path: Path) -> None:
    library = linked(objects, tmp_path)
    ctypes.CDLL(str(library), os.RTLD_NOW)
    data = library.read_bytes()
    assert b"\0libm.so.6\0" in data
    assert b"library.so" not in data


def test_neither_directory_nor_name_are_in_it(objects: list[Path], tmp_path: Path) -> None:
    one = linked(objects, tmp_path / "a").read_bytes()
    two = linked(objects, tmp_path / "a longer name", "other.so").read_bytes()
    assert one == two
    assert b"olmo" not in one
    assert str(tmp_path).encode() not in one


def test_the_linkers_message_is_the_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.o"
    broken.write_bytes(b"\x7fELF nothing")
    with pytest.raises(OlmoError, match=r"zig .* failed: .*broken\.o"):
        linked([broken], tmp_path / "out")
    assert not (tmp_path / "out" / "library.so").exists()
