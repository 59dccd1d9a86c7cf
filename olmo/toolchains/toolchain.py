"""The programs that compiling for a target needs beyond Python packages, and their versions.

Looked for before anything is built: what is missing is told with the command that installs it, and
no other artifact is made in its place. Imports neither numpy nor tvm.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from olmo.errors import OlmoError

INSTALL_NVCC = "python3 bootstrap.py cuda (or install NVIDIA's CUDA toolkit)"
INSTALL_HOST_COMPILER = "sudo apt-get install g++"


# Names of the programs that compiling for a kind of target runs.
PROGRAMS: Mapping[str, tuple[str, ...]] = {"cuda": ("nvcc", "g++")}


@dataclass(frozen=True, slots=True)
class Nvcc:
    """NVIDIA's compiler: the program, and a directory of libraries it needs, if any."""

    program: Path
    libraries: Path | None
    version: str


def tools(kind: str) -> Mapping[str, str]:
    """Return what compiling for this kind of target runs: name of the program → version.

    Raises:
        OlmoError: a program is missing; the hint is the command that installs it.
    """
    if kind == "cuda":
        return {"nvcc": nvcc().version, "g++": _host_compiler()}
    return {}


@cache
def nvcc() -> Nvcc:
    """Return the nvcc of the system, else that of the nvidia-cuda-nvcc wheel.

    Raises:
        OlmoError: there is neither.
    """
    found = shutil.which("nvcc")
    if found is not None:
        return Nvcc(Path(found), None, _version(found, "--version", pattern=r"V([\d.]+)"))
    packages = importlib.util.find_spec("nvidia")
    for place in (packages.submodule_search_locations or ()) if packages else ():
        for program in sorted(Path(place).glob("cu*/bin/nvcc")):
            version = _version(str(program), "--version", pattern=r"V([\d.]+)")
            return Nvcc(program, program.parents[1] / "lib", version)
    raise OlmoError("CUDA libraries need nvcc, which is not installed", INSTALL_NVCC)


@cache
def _host_compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        raise OlmoError("nvcc needs g++, which is not installed", INSTALL_HOST_COMPILER)
    return _version(found, "-dumpfullversion", pattern=r"([\d.]+)")


def _version(program: str, *arguments: str, pattern: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout)
    if done.returncode or match is None:
        raise OlmoError(f"{program} {' '.join(arguments)} does not say its version")
    return match[1]
