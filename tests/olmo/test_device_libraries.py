"""Libraries for platforms that tests cannot run: their form, and what stays the same."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from olmo.sampling_entrypoints import SAMPLING_ENTRY_POINTS
from tests.olmo.conftest import DeviceLibrary

Compiled = Callable[[str], bytes]


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
