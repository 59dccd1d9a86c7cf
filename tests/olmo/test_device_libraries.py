"""Libraries for platforms that tests cannot run: their form, and what stays the same."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from olmo.compile import compile_library
from olmo.compile_spec import CompileSpec
from olmo.config import OLMoConfig
from olmo.lower import lower
from olmo.quantizations import quantization
from olmo.sampling_entrypoints import SAMPLING_ENTRY_POINTS
from olmo.target import symbol_prefix
from olmo.targets import target
from tests.olmo.libraries import GOLDEN

NAME = "pub_b"
Compiled = Callable[[str], bytes]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Return the library of a golden checkpoint for a target, compiled once."""
    raw = json.loads((GOLDEN / "pub-b" / "config.json").read_bytes())
    spec = CompileSpec(OLMoConfig.from_huggingface(raw), quantization("q4f16_1"), 256)
    lowered: dict[str, tuple[bytes, bytes]] = {}
    made: dict[str, bytes] = {}

    def library(name: str) -> bytes:
        chosen = target(name)
        if name not in made:
            if chosen.kind not in lowered:
                lowered[chosen.kind] = lower(spec, chosen.kind)
            work = tmp_path_factory.mktemp(name)
            prefix = symbol_prefix(NAME, "q4f16_1") if chosen.suffix == ".tar" else None
            output = work / f"out{chosen.suffix}"
            compile_library(*lowered[chosen.kind], chosen, output, prefix, work=work)
            made[name] = output.read_bytes()
        return made[name]

    return library


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
