"""Linking objects into a library, with the linker of the `ziglang` wheel.

No system compiler, no host paths and no build identifiers: the same objects always give the same
bytes, whatever the directory, user or machine.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from olmo.errors import OlmoError

# Functions of the C library that generated code calls, by the library that a target loads them
# from. The linker sees stand-ins with these names, so no C library has to be built or present.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "libm.so.6": (
        *("acosf", "asinf", "atanf", "atan2f", "ceilf", "cosf", "coshf", "erff", "exp2f"),
        *("exp10f", "expf", "expm1f", "floorf", "fmaf", "fmaxf", "fminf", "fmodf", "ldexpf"),
        *("log10f", "log1pf", "log2f", "logf", "nearbyintf", "powf", "rintf", "roundf"),
        *("sincosf", "sinf", "sinhf", "sqrtf", "tanf", "tanhf", "truncf"),
        *("cos", "erf", "exp", "exp2", "fma", "fmod", "log", "log2", "pow", "sin", "sincos"),
        *("sqrt", "tanh"),
    ),
    "libc.so.6": ("abort", "bcmp", "memcmp", "memcpy", "memmove", "memset"),
}


def link(objects: Sequence[Path], output: Path, work: Path) -> None:
    """Link `objects` into the library `output`; `work` is a scratch directory.

    Raises:
        OlmoError: the linker is missing or fails (its message is in the error).
    """
    stand_ins = [_stand_in(name, symbols, work) for name, symbols in _NEEDED.items()]
    arguments: list[str | Path] = [
        *("-shared", "--strip-all", "--build-id=none", "--hash-style=gnu", "--gc-sections"),
        *("-z", "relro", "-z", "now", "-z", "noexecstack"),
        "-o",
        output,
        *objects,
        "--as-needed",
        *stand_ins,
    ]
    _zig("ld.lld", arguments, work)


def _stand_in(name: str, symbols: Sequence[str], work: Path) -> Path:
    """Make a shared library with this name that defines `symbols` and contains nothing."""
    empty = work / "empty.ld"
    empty.write_text("")
    library = work / name
    arguments: list[str | Path] = ["-shared", "-m", "elf_x86_64", "-soname", name, "-o", library]
    _zig("ld.lld", [*arguments, *(f"--defsym={s}=0" for s in symbols), empty], work)
    return library


def _zig(tool: str, arguments: Sequence[str | Path], work: Path) -> None:
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(work / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
    }
    command = [sys.executable, "-m", "ziglang", tool, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        told = next((line for line in lines if "error:" in line), lines[-1])
        raise OlmoError(f"linking failed: {told}", "pip install ziglang==0.15.2 brings the linker")
