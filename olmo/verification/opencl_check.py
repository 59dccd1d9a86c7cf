"""Compiling OpenCL C without a device: every kernel, by the clang of the `ziglang` wheel.

Clang needs the declarations of OpenCL's own functions, `opencl-c.h` with `opencl-c-base.h`, which
are part of clang and not of the wheel.
"""

import re
from pathlib import Path

from olmo.errors import OlmoError
from olmo.toolchains.zig import zig

_KERNEL = re.compile(r"^// Function: (\w+)$", re.MULTILINE)  # TVM's runtime splits here too
_OPTIONS = (
    *("-x", "cl", "-cl-std=CL1.2", "-target", "spir64-unknown-unknown"),
    *("-Xclang", "-finclude-default-header", "-fsyntax-only"),
)


def kernels(source: str) -> dict[str, str]:
    """Split the source of an OpenCL module of TVM into programs, each by its kernel's name."""
    pieces = _KERNEL.split(source)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def compile_kernels(programs: dict[str, str], headers: Path, work: Path) -> None:
    """Compile each program by itself, as a device does; `work` is a scratch directory.

    Raises:
        OlmoError: a program does not compile (with clang's first error), or clang is missing.
    """
    files = []
    for name, program in programs.items():
        files.append(work / f"{name}.cl")
        files[-1].write_text(program)
    try:
        zig("clang", [*_OPTIONS, "-I", headers.resolve(), *files], work)
    except OlmoError as error:
        raise OlmoError(str(error).replace(f"{work}/", "")) from None
