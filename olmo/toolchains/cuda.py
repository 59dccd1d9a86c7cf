"""CUDA kernels to a fatbin, on a machine with a GPU or without one.

TVM calls the compiler only if its CUDA runtime is loaded, which needs the driver's libraries. Where
they are missing, stand-ins of theirs are loaded that define the same functions, all of which fail:
compiling calls none of them.
"""

# tvm and tvm_ffi have no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-untyped-calls

import ctypes
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import tvm
import tvm_ffi

from olmo.errors import OlmoError
from olmo.toolchains.toolchain import nvcc
from olmo.toolchains.zig import zig

_RUNTIME = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"
_LOADED = "ffi.Module.create.cuda"
_DRIVER = {"libcuda.so.1": rb"cu[A-Z]\w+", "libcudart.so.13": rb"cuda[A-Z]\w+"}
_FATBIN = b"\x50\xed\x55\xba"


@contextmanager
def compiling(archs: Sequence[str], work: Path) -> Iterator[None]:
    """Let TVM compile CUDA kernels for `archs`, the lowest first, and as PTX of it for newer ones.

    `work` is a scratch directory.

    Raises:
        OlmoError: nvcc is missing or fails, or TVM's CUDA runtime cannot be loaded.
    """
    compiler = nvcc()
    failures: list[OlmoError] = []

    def compile_kernels(source: str) -> bytearray:
        try:
            return bytearray(_fatbin(source, tuple(archs)))
        except OlmoError as error:
            failures.append(error)
            raise

    if tvm.get_global_func(_LOADED, allow_missing=True) is None:
        _load_runtime(work)
    if tvm.get_global_func(_LOADED, allow_missing=True) is None:
        raise OlmoError(f"TVM's CUDA runtime cannot be loaded for nvcc {compiler.version}")
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compile_kernels, override=True)
    try:
        yield
    except RuntimeError:  # what TVM makes of an error in a function that it calls
        if failures:
            raise failures[0] from None
        raise


def check(objects: Sequence[Path]) -> None:
    """Refuse objects that hold the kernels as source instead of code.

    Raises:
        OlmoError: so it is.
    """
    made = b"".join(path.read_bytes() for path in objects)
    if _FATBIN not in made or b"__global__" in made:
        raise OlmoError("TVM embedded CUDA source instead of compiled kernels")


@lru_cache(maxsize=4)
def _fatbin(source: str, archs: tuple[str, ...]) -> bytes:
    """Compile kernels; the windows of a model have the same ones, so the last results are kept."""
    compiler = nvcc()
    # One PTX for all: to make another for each GPU is a third of nvcc's work, and no kernel of ours
    # uses what only newer ones have.
    lowest = archs[0].replace("sm_", "compute_")
    command = [
        *(str(compiler.program), "--fatbin", "-O3", "--use_fast_math", "--disable-warnings"),
        *("-gencode", f"arch={lowest},code=[{','.join([*archs, lowest])}]"),
        *("-o", "kernels.fatbin", "kernels.cu"),
    ]
    with tempfile.TemporaryDirectory() as work:
        Path(work, "kernels.cu").write_text(source, encoding="utf-8")
        # nvcc takes further options from the environment, which is not part of any key.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": work}
        if compiler.libraries is not None:
            environment["LD_LIBRARY_PATH"] = str(compiler.libraries)
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            told = next((line for line in lines if "error" in line), lines[-1])
            raise OlmoError(f"nvcc {compiler.version} failed: {told}")
        return Path(work, "kernels.fatbin").read_bytes()


def _load_runtime(work: Path) -> None:
    runtime = _RUNTIME.read_bytes()
    for library, pattern in _DRIVER.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            names = sorted(set(re.findall(rb"\0(" + pattern + rb")(?=\0)", runtime)))
            ctypes.CDLL(str(_stand_in(library, [name.decode() for name in names], work)))
    ctypes.CDLL(str(_RUNTIME))


def _stand_in(library: str, names: Sequence[str], work: Path) -> Path:
    source, compiled, output = work / "stand-in.c", work / "stand-in.o", work / library
    source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in names))
    zig("cc", ["-target", "x86_64-linux-musl", "-c", "-fPIC", "-o", compiled, source], work)
    versions = work / "stand-in.map"
    versions.write_text(f"{library} {{ global: *; }};\n")
    link: list[str | Path] = ["-shared", "-soname", library, "--version-script", versions]
    zig("ld.lld", [*link, "-o", output, compiled], work)
    return output
