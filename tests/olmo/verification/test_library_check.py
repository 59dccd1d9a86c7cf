"""Libraries of every target as they are, and everything that may be wrong with one."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.target import Target
from olmo.targets import target
from olmo.verification import library_check
from olmo.verification.library_check import check_library
from olmo.verification.library_file import DeviceModule
from tasks.node import Source
from tasks.verification import find
from tests.olmo.conftest import DeviceLibrary, Library
from tests.olmo.libraries import GOLDEN

PREFIX = "pub_b_q4f16_1_"


@pytest.fixture
def model(built: Library, tmp_path: Path) -> Path:
    """Return the model directory that the libraries belong to."""
    library = built("pub-b", "q4f16_1")
    model = tmp_path / "model"
    model.mkdir()
    for path in library.model_dir.iterdir():
        (model / path.name).symlink_to(path)
    config = {
        "model_type": "olmo",
        "quantization": "q4f16_1",
        "context_window_size": library.spec.config.context_window_size,
    }
    (model / "mlc-chat-config.json").write_text(json.dumps(config))
    return model


def check(
    path: Path, chosen: Target, model: Path, work: Path, opencl: Path | None = None
) -> tuple[str, list[str]]:
    prefix = PREFIX if chosen.system_lib else ""
    work.mkdir(exist_ok=True)
    return check_library(path, chosen, prefix, model, opencl, work)


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("linux-aarch64-cpu", "ELF aarch64"),
        ("windows-x86_64-cpu", "PE x86_64"),
        ("macos-arm64-metal", "Mach-O aarch64, {} Metal kernels as source"),
        ("android-arm64-opencl", "ELF aarch64, {} OpenCL kernels as source"),
    ],
)
def test_libraries_as_they_are(
    device_library: DeviceLibrary, model: Path, tmp_path: Path, name: str, summary: str
) -> None:
    found, checks = check(device_library(name), target(name), model, tmp_path / "work")
    kernels = [word for word in found.split() if word.isdigit()]
    assert found == summary.format(*kernels)
    assert all(int(count) > 30 for count in kernels)
    assert "no path of the machine that built it" in checks
    assert len(checks) >= 3 + len(kernels) + target(name).system_lib


def test_opencl_kernels_are_compiled(
    device_library: DeviceLibrary, model: Path, tmp_path: Path
) -> None:
    headers = find("opencl")
    if not isinstance(headers, Source):
        pytest.skip(headers.what)
    name = "android-arm64-opencl"
    work = tmp_path / "work"
    summary, _ = check(device_library(name), target(name), model, work, headers.root)
    assert summary.endswith(" OpenCL kernels compile")


def test_a_broken_kernel_is_found(
    device_library: DeviceLibrary, model: Path, tmp_path: Path
) -> None:
    headers = find("opencl")
    if not isinstance(headers, Source):
        pytest.skip(headers.what)
    path = changed(
        device_library("android-arm64-opencl"), tmp_path, b"get_group_id", b"get_groop_id"
    )
    with pytest.raises(OlmoError, match=r"zig clang failed: .*get_groop_id"):
        check(path, target("android-arm64-opencl"), model, tmp_path / "work", headers.root)


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("linux-aarch64-cpu", "linux-x86_64-cpu", "is for aarch64, not x86_64"),
        ("linux-aarch64-cpu", "windows-x86_64-cpu", "is a shared library in ELF, not PE"),
        ("macos-arm64-metal", "linux-aarch64-cpu", "is a shared library in Mach-O, not ELF"),
    ],
)
def test_a_library_for_another_target(
    device_library: DeviceLibrary,
    model: Path,
    tmp_path: Path,
    name: str,
    other: str,
    message: str,
) -> None:
    with pytest.raises(OlmoError, match=message):
        check(device_library(name), target(other), model, tmp_path / "work")


def changed(library: Path, out: Path, old: bytes, new: bytes) -> Path:
    """Return a copy of a library where some bytes are others of the same length."""
    data = library.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path = out / f"changed{library.suffix}"
    path.write_bytes(data.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"libm.so.6", b"libz.so.1", r"loads libz\.so\.1, which users may not have"),
        (b"\0\0batch_prefill", b"\0\0batch_pREfill", "has no function batch_prefill"),
        (b"vm.builtin.", b"/tmp/my/dir", "holds a path of the machine that built it: /tmp/my/dir"),
        (b'"quantization":"q4f16_1"', b'"quantization":"q4f16_2"', "for quantization q4f16_2, its"),
        (b'{"model_type":', b'{"modle_type":', "has no metadata"),
        (b'"max_batch_size":', b'"max_batch_size"?', "its metadata is not JSON"),
    ],
)
def test_what_is_wrong_with_a_library(
    device_library: DeviceLibrary, model: Path, tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    library = device_library("linux-aarch64-cpu")
    path = changed(library, tmp_path, old, new)
    with pytest.raises(OlmoError, match=message):
        check(path, target("linux-aarch64-cpu"), model, tmp_path / "work")


def test_weights_of_another_model(
    device_library: DeviceLibrary, model: Path, tmp_path: Path
) -> None:
    cache = (model / "tensor-cache.json").read_text()
    (model / "tensor-cache.json").unlink()
    (model / "tensor-cache.json").write_text(cache.replace("embed_tokens.", "embed_tokenz."))
    with pytest.raises(OlmoError, match=r"holds the tensor .*embed_tokenz\.q_"):
        check(
            device_library("linux-aarch64-cpu"),
            target("linux-aarch64-cpu"),
            model,
            tmp_path / "work",
        )


def test_members_without_the_prefix(
    device_library: DeviceLibrary, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "renamed.tar"
    with (
        tarfile.open(device_library("android-arm64-opencl")) as old,
        tarfile.open(path, "w") as new,
    ):
        for member in old:
            data = old.extractfile(member)
            assert data is not None
            member.name = member.name.removeprefix(PREFIX)
            new.addfile(member, io.BytesIO(data.read()))
    with pytest.raises(OlmoError, match=f"holds lib0.o, devc.o, not lib0.o and {PREFIX}devc.o"):
        check(path, target("android-arm64-opencl"), model, tmp_path / "work")


def test_symbols_without_the_prefix(
    device_library: DeviceLibrary, model: Path, tmp_path: Path
) -> None:
    symbol = b"\0__tvm_ffi_" + PREFIX.encode() + b"take_rows\0"
    other = b"\0__tvm_ffi_" + b"x" * len(PREFIX) + b"take_rows\0"
    path = changed(device_library("android-arm64-opencl"), tmp_path, symbol, other)
    with pytest.raises(
        OlmoError, match=r"the symbol __tvm_ffi_x*take_rows of lib0\.o lacks the prefix"
    ):
        check(path, target("android-arm64-opencl"), model, tmp_path / "work")


def fatbin(
    archs: tuple[str, ...],
    device: Path,
    data: bytes | None = None,
    kernels: tuple[str, ...] = ("scale", "shift"),
) -> tuple[str, list[str]]:
    device.write_bytes(data if data is not None else b"the library")
    golden = (GOLDEN / "two-kernels.fatbin").read_bytes()
    module = DeviceModule("cuda", "cubin", kernels, {"": golden})
    chosen = replace(target("linux-x86_64-cpu"), kind="cuda", archs=archs)
    return library_check._check_cuda(device, module, chosen)


def test_cuda(tmp_path: Path) -> None:
    summary, checks = fatbin(("sm_80", "sm_90"), tmp_path / "x.so")
    assert summary == "fatbin of sm_80 sm_90 and PTX sm_80"
    assert checks[-1] == "no source of CUDA"


@pytest.mark.parametrize("archs", [("sm_80",), ("sm_90",), ("sm_80", "sm_90", "sm_100")])
def test_cuda_for_other_gpus(tmp_path: Path, archs: tuple[str, ...]) -> None:
    with pytest.raises(OlmoError, match="machine code for sm_80, sm_90 and PTX for sm_80, not for"):
        fatbin(archs, tmp_path / "x.so")


def test_a_kernel_without_machine_code(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="has no machine code of third for sm_80"):
        fatbin(("sm_80", "sm_90"), tmp_path / "x.so", kernels=("scale", "third"))


def test_source_of_cuda(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="holds source of CUDA"):
        fatbin(("sm_80", "sm_90"), tmp_path / "x.so", b'extern "C" __global__ void f();')


Change = Callable[[DeviceModule], DeviceModule]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replace(m, kind="opencl"), "device code for opencl, not for metal"),
        (lambda m: replace(m, kernels=()), "has no kernels for metal"),
        (lambda m: replace(m, kernels=("g",)), "have different names"),
        (lambda m: replace(m, code={"f": b"kernel void g()"}), "kernel f does not define it"),
    ],
)
def test_what_is_wrong_with_device_code(tmp_path: Path, change: Change, message: str) -> None:
    module = DeviceModule("metal", "metal", ("f",), {"f": b"kernel void f()"})
    chosen = target("macos-arm64-metal")
    library = library_check.LibraryFile((), b"", (module,))
    assert library_check._check_device(tmp_path, library, chosen, None, tmp_path)[0] == (
        "1 Metal kernels as source"
    )
    spoilt = library_check.LibraryFile((), b"", (change(module),))
    with pytest.raises(OlmoError, match=message):
        library_check._check_device(tmp_path, spoilt, chosen, None, tmp_path)
