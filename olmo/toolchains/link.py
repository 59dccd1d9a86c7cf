"""Linking objects into a shared library for any platform, by the linkers of the `ziglang` wheel.

No system compiler, no host paths and no build identifiers: the same objects always give the same
bytes, whatever the directory, user or machine. No C library has to be built or present: the linkers
see stand-ins that define the names of functions and contain nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from olmo.errors import OlmoError
from olmo.toolchains.zig import zig

# Functions of the C library that generated code calls.
_MATH = (
    *("acosf", "asinf", "atanf", "atan2f", "ceilf", "cosf", "coshf", "erff", "exp2f"),
    *("expf", "expm1f", "floorf", "fmaf", "fmaxf", "fminf", "fmodf", "ldexpf"),
    *("log10f", "log1pf", "log2f", "logf", "nearbyintf", "powf", "rintf", "roundf"),
    *("sinf", "sinhf", "sqrtf", "tanf", "tanhf", "truncf"),
    *("cos", "erf", "exp", "exp2", "fma", "fmod", "log", "log2", "pow", "sin"),
    *("sqrt", "tanh"),
)
_MEMORY = ("memcmp", "memcpy", "memmove", "memset")

# The same by the library that a platform loads them from.
_LINUX: Mapping[str, tuple[str, ...]] = {
    "libm.so.6": (*_MATH, "exp10f", "sincos", "sincosf"),
    "libc.so.6": (*_MEMORY, "abort", "bcmp"),
}
_WINDOWS: Mapping[str, tuple[str, ...]] = {
    "ucrtbase.dll": (*_MATH, *_MEMORY, "abort"),
    "ntdll.dll": ("__chkstk",),
    # TVM's objects call its runtime by name (tvm/ffi/c_api.h); Windows has to be told where it is.
    "tvm_ffi.dll": ("TVMFFIErrorSetRaisedFromCStrParts",),
}

_ELF = {"x86_64": "elf_x86_64", "aarch64": "aarch64linux"}


def link(objects: Sequence[Path], output: Path, triple: str, work: Path) -> None:
    """Link `objects` into the shared library `output` for LLVM's `triple`.

    `work` is a scratch directory.

    Raises:
        OlmoError: no shared libraries are made for the platform, or the linker is missing or fails.
    """
    arch, _, system = triple.partition("-")
    if "linux-gnu" in system and arch in _ELF:
        _link_elf(objects, output, _ELF[arch], work)
    elif "windows" in system and arch == "x86_64":
        _link_coff(objects, output, work)
    elif "macosx" in system and arch == "arm64":
        _link_macho(objects, output, system.rpartition("macosx")[2], work)
    else:
        raise OlmoError(f"no shared library can be linked for {triple}")


def _link_elf(objects: Sequence[Path], output: Path, emulation: str, work: Path) -> None:
    empty = work / "empty.ld"
    empty.write_text("")
    stand_ins = []
    for name, symbols in _LINUX.items():
        arguments: list[str | Path] = [
            "-shared",
            "-m",
            emulation,
            "-soname",
            name,
            "-o",
            work / name,
        ]
        zig("ld.lld", [*arguments, *(f"--defsym={s}=0" for s in symbols), empty], work)
        stand_ins.append(work / name)
    arguments = [
        *("-shared", "-m", emulation, "--strip-all", "--build-id=none", "--hash-style=gnu"),
        *("--gc-sections", "-z", "relro", "-z", "now", "-z", "noexecstack"),
        "-o",
        output,
        *objects,
        "--as-needed",
        *stand_ins,
    ]
    zig("ld.lld", arguments, work)


def _link_coff(objects: Sequence[Path], output: Path, work: Path) -> None:
    imports = []
    for name, symbols in _WINDOWS.items():
        definition = work / f"{name}.def"
        definition.write_text("\n".join([f"LIBRARY {name}", "EXPORTS", *symbols, ""]))
        library = work / f"{name}.lib"
        make: list[str | Path] = ["-m", "i386:x86-64", "-D", name, "-d", definition, "-l", library]
        zig("dlltool", make, work)
        imports.append(library)
    arguments: list[str | Path] = [
        *("/dll", "/noentry", "/nodefaultlib", "/Brepro", "/opt:ref"),
        # Every object with floating point asks for this name; nothing looks at its value.
        "/alternatename:_fltused=__tvm_ffi__library_bin",
        f"/out:{output}",
        *objects,
        *imports,
    ]
    zig("lld-link", arguments, work)


def _link_macho(objects: Sequence[Path], output: Path, version: str, work: Path) -> None:
    # `build-lib` and not `cc`, which would compile a runtime library of its own first.
    arguments: list[str | Path] = [
        *("-dynamic", "-target", f"aarch64-macos.{version}", "-O", "ReleaseSmall"),
        *("-fno-compiler-rt", "-fallow-shlib-undefined", "-fstrip"),
        *("--name", "library", "-install_name", "@rpath/library.dylib"),
        f"-femit-bin={output}",
        *objects,
    ]
    zig("build-lib", arguments, work)
