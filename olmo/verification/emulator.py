"""A machine of another architecture, emulated: it runs Python programs that run libraries.

It is a directory with an emulator, a small system and a Python for the architecture, and the
packages that running a library needs; `tasks/verification_tools.py` makes it. Its description says
what it consists of.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo.errors import OlmoError

DESCRIPTION = "machine.json"
PACKAGES = ("apache-tvm", "apache-tvm-ffi", "ml_dtypes", "numpy", "tokenizers", "typing_extensions")
SITE = "usr/lib/python3/dist-packages"  # where Debian's Python looks for packages

LIMIT = 1800  # seconds until a program counts as hanging


@dataclass(frozen=True)
class Machine:
    """What a machine consists of.

    `emulator` and `python` are paths in its directory, `version` that of the emulator in words,
    `packages` those of Python and `system` those of the operating system, with their versions.
    """

    emulator: str
    version: str
    python: str
    packages: dict[str, str]
    system: dict[str, str]


def place(tool: str, prefix: Path = Path(sys.prefix)) -> Path:
    """Return where a tool of verification belongs in the Python environment `prefix`."""
    return prefix / "share" / "olmill" / tool


def read_machine(directory: Path) -> Machine | None:
    """Return the description of the machine in a directory, None if there is none."""
    try:
        return Machine(**json.loads((directory / DESCRIPTION).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def run_emulated(
    directory: Path, arguments: Sequence[str], modules: Path, work: Path, limit: float = LIMIT
) -> Machine:
    """Run the machine's Python with `arguments` in the directory `work`.

    `modules` is where the program's own modules are. The program sees nothing of the environment.

    Raises:
        OlmoError: no machine, the program fails (with the last line that it wrote), or it takes
            longer than `limit` seconds.
    """
    machine = read_machine(directory)
    if machine is None:
        raise OlmoError(f"{directory}: there is no emulated machine")
    command: list[str | Path] = [
        directory / machine.emulator,
        "-L",
        directory,
        directory / machine.python,
    ]
    environment = {
        "PYTHONPATH": f"{directory / SITE}:{modules}",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TVM_USE_RUNTIME_LIB": "1",  # the compiler is not there, and would take long to load
    }
    try:
        done: Any = subprocess.run(
            [*command, "-S", *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OlmoError(f"under emulation: not finished after {limit:.0f} s") from None
    if done.returncode < 0:
        raise OlmoError(f"under emulation: killed by signal {-done.returncode}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        told = lines[-1].removeprefix(f"{OlmoError.__module__}.{OlmoError.__name__}: ")
        raise OlmoError(f"under emulation: {told}")
    return machine
