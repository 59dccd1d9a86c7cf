"""Kernels for GPUs on the CPU, without lockstep: see gpu_threads.c."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm
from numpy.typing import NDArray

from olmo.toolchains.zig import zig
from olmo.verification.opencl_check import kernels

OPENCL = tvm.target.Target(
    {"kind": "opencl", "host": {"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu"}}
)
_PARAMETER = re.compile(r"(?:__global \w+\* restrict|int) (\w+)[,)]")
Run = Callable[..., None]


def threaded(function: tvm.tirx.PrimFunc, work: Path) -> Run:
    """Return what runs a scheduled function with one kernel, compiled in the directory `work`.

    It takes the blocks along both axes, the threads of a block, whether the last thread is the
    first to run, and the kernel's arguments by name: arrays, which it writes to, and integers.
    """
    module = tvm.IRModule({"f": function.with_attr("global_symbol", "f")})
    ((kernel, source),) = kernels(
        tvm.compile(module, OPENCL).mod.imports[0].inspect_source()
    ).items()
    (work / "kernel.inc").write_text(source)
    names = _PARAMETER.findall(source.split(";")[0])
    arguments = [
        f"given[{i}]" if name.endswith("_ptr") else f"*(int *)given[{i}]"
        for i, name in enumerate(names)
    ]
    made, library = work / "kernel.o", work / "kernel.so"
    defined = [f"-DKERNEL={kernel}", f"-DARGUMENTS={','.join(arguments)}"]
    defined.append('-DSOURCE="kernel.inc"')
    flags = ["-target", "x86_64-linux-gnu", "-fPIC", "-O1", "-I", work, *defined, "-c", "-o", made]
    zig("cc", [*flags, Path(__file__).with_suffix(".c")], work)
    zig("ld.lld", ["-shared", "-o", library, made], work)  # Python's process has the C library
    entry = ctypes.CDLL(str(library)).run

    def run(
        blocks: tuple[int, int], threads: int, given: dict[str, NDArray[Any] | int], *, last: bool
    ) -> None:
        values = [given[name.removesuffix("_ptr")] for name in names]
        pointers = [
            ctypes.pointer(ctypes.c_int(value))
            if isinstance(value, int)
            else value.ctypes.data_as(ctypes.c_void_p)
            for value in values
        ]
        places = [ctypes.cast(pointer, ctypes.c_void_p) for pointer in pointers]
        entry(*blocks, threads, int(last), (ctypes.c_void_p * len(places))(*places))

    return run
