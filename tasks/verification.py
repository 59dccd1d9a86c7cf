"""How each row's library is verified: by which action, and with which tools beside Olmill's own.

Those tools are no part of an installation (an emulator, a browser, the headers of a language), so
they are looked for when the graph is planned. What is found is a source that the node reads, and
so is in its key by content; what is missing is a parameter of the node. A tool that is installed
later, or another version of it, makes another key, and the library is verified again.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from olmo.target import Target
from olmo.targets import runs_here
from olmo.verification.emulator import DESCRIPTION, place, read_machine
from olmo.wasm.packages import LOCK, chromium, has_packages, node
from tasks.fingerprint import version
from tasks.node import Source

INSTALL = "python3 bootstrap.py verify"
EMULATED = ("aarch64",)


@dataclass(frozen=True)
class Missing:
    """A tool that is not here: `what` is missing, in words, and the command that installs it."""

    what: str
    install: str = INSTALL


Find = Callable[[str], Source | Missing]


@dataclass(frozen=True)
class Way:
    """A way of verifying: the action that does it, and the names of the tools it needs."""

    action: str
    tools: tuple[str, ...] = ()


CHECK = "check_library"  # also what is left where a tool is missing
HERMETIC = ("verify", CHECK)  # they read nothing but their inputs and what is installed with Olmill


def way(target: Target) -> Way:
    """Return the best way of verifying the libraries of a target on this machine."""
    if runs_here(target):
        return Way("verify")
    if target.suffix == ".wasm":
        return Way("verify_web", ("web", "chromium") if target.kind == "webgpu" else ("web",))
    if target.tvm["kind"] == "opencl":
        return Way(CHECK, ("opencl",))
    arch, _, system = target.triple.partition("-")
    if target.host is None and system == "unknown-linux-gnu" and not target.system_lib:
        return Way("emulate", (arch,))
    return Way(CHECK)


def find(tool: str) -> Source | Missing:
    """Look for a tool where `bootstrap.py verify` puts it."""
    directory = place(tool)
    if tool in EMULATED:
        return _machine(tool, directory)
    if tool == "opencl":
        return _opencl(directory)
    if tool == "web":
        return _web(directory)
    if tool == "chromium":
        return _chromium()
    return Missing(f"this is no machine for {tool}", f"doit on a machine for {tool}")


def _opencl(directory: Path) -> Source | Missing:
    if (directory / "opencl-c.h").is_file():
        return Source("tool:opencl", directory, ("*.h",))
    return Missing("the headers of OpenCL C are not installed")


def _chromium() -> Source | Missing:
    browser = chromium()
    if browser is None:
        return Missing("chromium not found", "sudo apt-get install chromium")
    return Source("tool:chromium", Path(browser).parent, (glob.escape(Path(browser).name),))


def _web(directory: Path) -> Source | Missing:
    if node() is None:
        return Missing("node not found", "sudo apt-get install nodejs npm")
    if not has_packages(directory):
        return Missing("the packages of npm are not installed")
    return Source("tool:web", directory, LOCK)


def _machine(arch: str, directory: Path) -> Source | Missing:
    machine = read_machine(directory)
    if machine is None:
        return Missing(f"no emulated {arch} machine is installed")
    for package, found in machine.packages.items():
        if found != version(package):
            wanted = f"not {version(package)}"
            return Missing(f"the emulated {arch} machine has {package} {found}, {wanted}")
    return Source(f"tool:{arch}", directory, (DESCRIPTION,))
