"""What TVM embeds in libraries."""

import contextlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.errors import OlmoError
from olmo.verification.library_file import MalformedError, _device, _modules, _Reader, read_library
from tests.olmo.conftest import DeviceLibrary

PREFIX = "pub_b_q4f16_1_"


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def vector(*items: bytes) -> bytes:
    return len(items).to_bytes(8, "little") + b"".join(items)


def module(kind: str, *, in_many: bool = False) -> bytes:
    """Code for one kernel, as TVM's device modules save themselves."""
    types = vector(b"\3\x40\1\0", b"\3\x40\1\0")
    launch = vector(sized(b"blockIdx.x"))
    kernel = sized(b"f_kernel") + sized(b"f_kernel") + types + launch + vector(bytes(4), bytes(4))
    code = vector(sized(b"f_kernel") + sized(b"code")) if in_many else sized(b"code")
    return sized(kind.encode()) + vector(kernel) + code


def blob(*modules: tuple[bytes, bytes | None]) -> bytes:
    rows = [number.to_bytes(8, "little") for number in range(len(modules) + 1)]
    body = vector(*rows) + vector()
    for kind, data in modules:
        body += sized(kind) + (b"" if data is None else sized(data))
    return sized(body)


def test_modules() -> None:
    data = blob((b"relax.VMExecutable", b"code"), (b"_lib", None), (b"opencl", b"more"))
    assert _modules(_Reader(data + b"whatever follows the symbol")) == [
        ("relax.VMExecutable", b"code"),
        ("_lib", b""),
        ("opencl", b"more"),
    ]


@pytest.mark.parametrize(("kind", "many"), [("opencl", False), ("cuda", False), ("metal", True)])
def test_device_modules(kind: str, *, many: bool) -> None:
    found = _device(kind, _Reader(module("text", in_many=many)))
    assert (found.format, found.kernels) == ("text", ("f_kernel",))
    assert found.code == {"f_kernel" if many else "": b"code"}


@given(st.data())
def test_what_is_cut_off_is_refused(data: st.DataObject) -> None:
    whole = module("cl")
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MalformedError):
        _device("opencl", _Reader(whole[:end]))


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read_but_never_crashes(noise: bytes) -> None:
    for read in (_modules, lambda reader: _device("metal", reader)):
        with contextlib.suppress(MalformedError, UnicodeDecodeError):
            read(_Reader(noise))


def test_a_shared_library(device_library: DeviceLibrary) -> None:
    found = read_library(device_library("macos-arm64-metal"))
    (device,) = found.devices
    assert (device.kind, device.format) == ("metal", "metal")
    assert set(device.code) == set(device.kernels)
    assert len(device.kernels) > 30
    assert b'"quantization":"q4f16_1"' in found.executable


def test_an_archive(device_library: DeviceLibrary) -> None:
    found = read_library(device_library("android-arm64-opencl"), PREFIX)
    assert [each.name for each in found.objects] == ["lib0.o", f"{PREFIX}devc.o"]
    assert all(each.format == "ELF" and not each.shared for each in found.objects)
    (device,) = found.devices
    assert (device.kind, device.format) == ("opencl", "cl")
    assert all(name.startswith(PREFIX) for name in device.kernels)


def test_another_prefix(device_library: DeviceLibrary) -> None:
    with pytest.raises(OlmoError, match="0 objects define the symbol other___tvm_ffi__library_bin"):
        read_library(device_library("android-arm64-opencl"), "other_")


def test_what_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar file")
    with pytest.raises(OlmoError, match=r"x\.tar: not a tar file"):
        read_library(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "y.tar", "w") as file:
        member = tarfile.TarInfo("directory")
        member.type = tarfile.DIRTYPE
        file.addfile(member, io.BytesIO())
    with pytest.raises(OlmoError, match=r"y\.tar: directory is not a file"):
        read_library(tmp_path / "y.tar")
