"""The tools of the `ziglang` wheel: linkers for every platform, and a C compiler.

They are told everything that matters: no system compiler, no paths of this machine, no settings of
the user get into what they make.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from olmo.errors import OlmoError


def zig(
    tool: str, arguments: Sequence[str | Path], work: Path, directory: Path | None = None
) -> str:
    """Run a tool of zig in `directory`; its caches are in the scratch directory `work`.

    Returns what it writes on standard output.

    Raises:
        OlmoError: ziglang is missing or the tool fails; its message is in the error.
    """
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(work.absolute() / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(work.absolute() / "zig"),
    }
    command = [sys.executable, "-m", "ziglang", tool, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        told = next((line for line in lines if "error:" in line), lines[-1])
        absent = "No module named" in told
        hint = "pip install ziglang==0.15.2 brings it" if absent else None
        raise OlmoError(f"zig {tool} failed: {told}", hint)
    return done.stdout
