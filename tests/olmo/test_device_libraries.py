"""Libraries for platforms that tests cannot run: their form, and what stays the same."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from olmo.modeling.sampling_entrypoints import SAMPLING_ENTRY_POINTS
from tests.olmo.conftest import DeviceLibrary

ROOT = Path(__file__).parents[2]
Compiled = Callable[[str], bytes]

COMPILE = """
import pathlib, sys
from olmo.compilation.compile import compile_library
from tests.olmo.libraries import device_target
for argument in sys.argv[1:]:
    made = pathlib.Path(argument)
    chosen, work = device_target(made.parent.name.rstrip("0123456789")), pathlib.Path(made.parent.name)
    work.mkdir()
    read = lambda part: made.with_name(part).read_bytes()
    prefix = "pub_b_q4f16_1_" if made.suffix == ".tar" else None
    compile_library(
        read("module"), read("metadata"), chosen, work / f"it{made.suffix}", prefix, work=work
    )
"""


@pytest.fixture
def compiled(device_library: DeviceLibrary) -> Compiled:
    return lambda name: device_library(name).read_bytes()


def test_arm_linux(compiled: Compiled) -> None:
    library = compiled("linux-aarch64-cpu")
    assert library[:20] == b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\xb7\0"
    assert b"\0libm.so.6\0" in library


def test_windows(compiled: Compiled) -> None:
    library = compiled("windows-x86_64-cpu")
    assert library[:2] == b"MZ"
    for name in (b"tvm_ffi.dll\0", b"ucrtbase.dll\0", b"__tvm_ffi__library_bin\0"):
        assert name in library


def test_android(compiled: Compiled) -> None:
    with tarfile.open(fileobj=io.BytesIO(compiled("android-arm64-opencl"))) as file:
        members = {name: file.extractfile(name).read() for name in file.getnames()}  # type: ignore[union-attr]  # files
    host, device = members.pop("lib0.o"), members.pop("pub_b_q4f16_1_devc.o")
    assert not members
    assert host[:4] == device[:4] == b"\x7fELF"
    assert host[18] == device[18] == 0xB7
    assert b"pub_b_q4f16_1___tvm_ffi__library_bin\0" in device
    assert device.count(b"__kernel void") > 30
    for name in (row.name for row in SAMPLING_ENTRY_POINTS):
        assert name.encode() in device, name


def test_macos(compiled: Compiled) -> None:
    library = compiled("macos-arm64-metal")
    assert library[:8] == b"\xcf\xfa\xed\xfe\x0c\0\0\1"
    assert b"@rpath/library.dylib\0" in library
    assert library.count(b"kernel void") > 30


@pytest.mark.parametrize("name", ["android-arm64-opencl", "macos-arm64-metal"])
def test_no_path_of_the_build_is_in_it(compiled: Compiled, name: str, tmp_path: Path) -> None:
    library = compiled(name)
    for part in (str(tmp_path.parent), "/tmp/", "site-packages"):  # noqa: S108  is to be absent
        assert part.encode() not in library, part


def test_another_process_and_directory_give_the_same_libraries(
    device_library: DeviceLibrary, tmp_path: Path
) -> None:
    names = ["android-arm64-opencl", "macos-arm64-metal", "windows-x86_64-cpu"]
    made = [device_library(name) for name in names]
    environment = {**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPILE, *map(str, made)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for library in made:
        again = tmp_path / library.parent.name / f"it{library.suffix}"
        assert again.read_bytes() == library.read_bytes(), library.parent.name
