"""The TVM runtime for the web, from the sources in the apache-tvm and apache-tvm-ffi wheels.

A library for WebAssembly carries its runtime, so one is made for all of them: an object with
everything of TVM, and an archive of the C and C++ library that linking takes from what it needs.
The same wheels always give the same bytes. `native/` holds what the wheels lack: headers of TVM
itself, and what stands in for an operating system.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from olmo.errors import OlmoError
from olmo.toolchains.zig import zig

OBJECT = "runtime.o"
ARCHIVE = "libc.a"

# Where TVM's sources include our files from, below the laid out tree.
_PLACES = {
    "io.h": "include/tvm/support",
    "serializer.h": "include/tvm/support",
    "nvtx.h": "include/tvm/support/cuda",
    "bytes_io.h": "src/support",
    "base64.h": "src/support",
    "utils.h": "src/support",
    "std.h": "web/emcc",
    "rpc.cc": "web/emcc",
    "system.c": "web/emcc",
    "allocator.c": "web/emcc",
}
# Parts of TVM's own list of sources (web/emcc/wasm_runtime.cc) that no library here uses: calls
# between machines, a sort on the CPU, and tests.
_LEFT_OUT = (
    "src/runtime/extra/contrib/sort/sort.cc",
    "src/runtime/rpc/rpc_channel.cc",
    "src/runtime/rpc/rpc_endpoint.cc",
    "src/runtime/rpc/rpc_event_impl.cc",
    "src/runtime/rpc/rpc_module.cc",
    "3rdparty/tvm-ffi/src/ffi/testing/testing.cc",
)
_SOURCES = (
    *("wasm_runtime.cc", "webgpu_runtime.cc", "tvmjs_support.cc", "rpc.cc"),
    *("system.c", "allocator.c"),
)
_LIBRARIES = ("libc.a", "libzigc.a", "libc++.a", "libc++abi.a", "libcompiler_rt.a")

_TARGET = ("-target", "wasm32-wasi", "-Os", "-g0")
# Paths are relative to where the compiler runs, so that none of this machine is in the result.
_CPP = (
    *("-std=c++17", "-I../..", "-I../../include", "-I../../3rdparty/tvm-ffi/include"),
    *("-include", "std.h", "-fignore-exceptions", "-Wno-everything"),
    "-DTVM_FFI_CMAKE_LITTLE_ENDIAN=1",
    '-DTVM_FFI_DLL=__attribute__((visibility("default")))',
)


def build_runtime(native: Path, output: Path, work: Path) -> None:
    """Write the runtime's object and archive to the directory `output`.

    `native` holds the files of `olmo/wasm/native`; `work` is an existing scratch directory.

    Raises:
        OlmoError: a wheel is missing or holds other sources, or the compiler fails.
    """
    _lay_out(native, work)
    sources = work / "web" / "emcc"
    with ThreadPoolExecutor(2) as pool:
        library = pool.submit(_standard_library, work)  # as long as all the rest
        for source in _SOURCES:
            _compile(source, sources, work)
        library.result()
    objects = [sources / f"{source}.o" for source in _SOURCES]
    zig("wasm-ld", ["-r", "--strip-debug", "-o", output / OBJECT, *objects], work)
    _merge([_found(name, work) for name in _LIBRARIES], output / ARCHIVE, work)


def _lay_out(native: Path, work: Path) -> None:
    """Put the sources together as they lie in TVM's own repository."""
    tvm, ffi = _package("tvm"), _package("tvm_ffi")
    for source, place in (
        (tvm / "web" / "emcc", "web/emcc"),
        (tvm / "src" / "runtime", "src/runtime"),
        (tvm / "include", "include"),
        (ffi / "src", "3rdparty/tvm-ffi/src"),
        (ffi / "include", "3rdparty/tvm-ffi/include"),
    ):
        if not source.is_dir():
            raise OlmoError(
                f"{source}: the wheel of this version has no such sources",
                "install the versions of requirements.lock",
            )
        shutil.copytree(source, work / place)
    for name, place in _PLACES.items():
        (work / place).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(native / name, work / place / name)
    listing = work / "web" / "emcc" / "wasm_runtime.cc"
    text = listing.read_text(encoding="utf-8")
    for name in _LEFT_OUT:
        line = f'#include "{name}"\n'
        if line not in text:
            raise OlmoError(
                f"wasm_runtime.cc of the apache-tvm wheel does not include {name}",
                "install the versions of requirements.lock",
            )
        text = text.replace(line, "")
    listing.write_text(text, encoding="utf-8")


def _package(name: str) -> Path:
    """Return the directory of an installed package without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise OlmoError(f"the Python package {name} is not installed", "python3 bootstrap.py")
    return Path(spec.origin).parent


def _compile(source: str, directory: Path, work: Path) -> None:
    is_cpp = source.endswith(".cc")
    flags = [*_TARGET, *(_CPP if is_cpp else ()), "-c", "-o", f"{source}.o", source]
    zig("c++" if is_cpp else "cc", flags, work, directory)


def _standard_library(work: Path) -> None:
    """Let zig build its C and C++ library, which it does for the first program it links."""
    directory = work / "program"
    directory.mkdir()
    (directory / "empty.cc").write_text("")
    flags = [*_TARGET, "-mexec-model=reactor", "-o", "empty.wasm", "empty.cc"]
    zig("c++", flags, work, directory)


def _found(name: str, work: Path) -> Path:
    """Return the library of this name in zig's cache."""
    found = list((work / "zig").glob(f"o/*/{name}"))
    if len(found) != 1:
        raise OlmoError(f"zig has made {len(found)} libraries {name}, one was expected")
    return found[0]


def _merge(libraries: Sequence[Path], output: Path, work: Path) -> None:
    """Join archives to one, whose members have no paths for names as those of zig have."""
    directory = work / "members"
    directory.mkdir()
    listed = [zig("ar", ["t", library], work).splitlines() for library in libraries]
    names = []
    for number, path in enumerate(path for paths in listed for path in paths):
        names.append(f"{number:04}.o")
        shutil.copyfile(path, directory / names[-1])
    zig("ar", ["rcsD", output.absolute(), *names], work, directory)
