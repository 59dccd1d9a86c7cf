"""Objects of every format, as the compiler and linkers write them."""

import pytest

from olmo.errors import OlmoError
from olmo.verification.object_file import ObjectFile, read_object
from tests.olmo.conftest import DeviceLibrary

SYMBOL = "__tvm_ffi__library_bin"


def read(device_library: DeviceLibrary, name: str) -> ObjectFile:
    return read_object(device_library(name).read_bytes(), "it")


@pytest.mark.parametrize(
    ("name", "form", "architecture", "needed"),
    [
        ("linux-aarch64-cpu", "ELF", "aarch64", ("libm.so.6", "libc.so.6")),
        ("windows-x86_64-cpu", "PE", "x86_64", ("ucrtbase.dll", "tvm_ffi.dll")),
        ("macos-arm64-metal", "Mach-O", "aarch64", ("/usr/lib/libSystem.B.dylib",)),
    ],
)
def test_shared_libraries(
    device_library: DeviceLibrary,
    name: str,
    form: str,
    architecture: str,
    needed: tuple[str, ...],
) -> None:
    found = read(device_library, name)
    assert (found.format, found.architecture, found.shared) == (form, architecture, True)
    assert found.needed == needed
    assert {SYMBOL, "__tvm_ffi_layer_norm"} <= set(found.defined)
    assert "TVMFFIErrorSetRaisedFromCStrParts" in found.undefined
    content = found.content(SYMBOL)
    assert int.from_bytes(content[:8], "little") <= len(content) - 8
    assert b"relax.VMExecutable" in content[:200]


def test_a_symbol_that_is_not_there(device_library: DeviceLibrary) -> None:
    found = read(device_library, "linux-aarch64-cpu")
    for name in ("no_such_symbol", "memcpy"):
        with pytest.raises(OlmoError, match=f"it: defines no symbol {name}"):
            found.content(name)


@pytest.mark.parametrize("data", [b"", b"text", b"\x7fELF", b"MZ" + bytes(100), bytes(1000)])
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(OlmoError, match="it: is no object file of a known format"):
        read_object(data, "it")
