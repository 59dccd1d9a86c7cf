"""Install what verification uses beside Olmill: `python -m tasks.verification_tools`.

Into this Python environment, without root: the headers of OpenCL C, and an emulated aarch64 machine.
Debian's packages are downloaded by the system's own apt, verified as apt verifies, and unpacked,
not installed; Python's are the versions of requirements.lock, downloaded by pip.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from olmo.errors import OlmoError
from olmo.verification.emulator import (
    DESCRIPTION,
    PACKAGES,
    SITE,
    Machine,
    place,
    read_machine,
    run_emulated,
)
from olmo.wasm.packages import has_packages, install
from tasks.errors import BuildError
from tasks.fingerprint import version
from tasks.verification import EMULATED

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"

# Names of Debian's and Ubuntu's architectures.
DEBIAN = {"aarch64": "arm64"}
# glibc that wheels may ask for: what the system of the machine has at least.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
CLANG = 20  # of the ziglang wheel; headers of a newer one may need builtins that it lacks


class Apt:
    """The system's apt for packages of any architecture, with all of its state in `directory`."""

    def __init__(self, directory: Path, arch: str | None = None) -> None:
        self._directory = directory
        for part in ("state/lists/partial", "cache/archives/partial"):
            (directory / part).mkdir(parents=True)
        status = directory / "status"
        status.touch()  # nothing is installed: all dependencies are downloaded
        options = {
            "Dir::State": directory / "state",
            "Dir::State::status": status,
            "Dir::Cache": directory / "cache",
            "Debug::NoLocking": 1,
            "APT::Sandbox::User": "",
            "Acquire::Retries": 3,
        }
        if arch is not None:
            options |= {"APT::Architecture": arch, "APT::Architectures": arch}
        self._options = [f"-o{name}={value}" for name, value in options.items()]
        self._get("update")

    def unpack(self, packages: Sequence[str], into: Path, *, alone: bool = False) -> dict[str, str]:
        """Unpack packages, with all that they depend on unless `alone`; return the versions."""
        archives = self._directory / ("cache/archives" if not alone else "alone")
        archives.mkdir(exist_ok=True)
        if alone:
            self._get("download", *packages, work=archives)
        else:
            install = ("--download-only", "--no-install-recommends", "-y", "install")
            self._get(*install, *packages)
        found = {}
        for archive in sorted(archives.glob("*.deb")):
            _call(["dpkg", "-x", archive, into])
            name, of, _ = archive.name.split("_")
            found[name] = of.replace("%3a", ":")
        return found

    def names(self, prefix: str) -> list[str]:
        """Return the names of all packages that begin with `prefix`."""
        return _call(["apt-cache", *self._options, "pkgnames", prefix]).split()

    def _get(self, *arguments: str, work: Path | None = None) -> None:
        _call(["apt-get", *self._options, "-qq", *arguments], work)


def main() -> None:
    """Install what is missing or not of the versions that Olmill has now."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is not here", "the tools of verification come from Debian")
    opencl = place("opencl")
    if not opencl.is_dir():
        _install(opencl, install_opencl)
    web = place("web")
    if not has_packages(web):
        _install(web, lambda into, _work: install(into))
    for arch in EMULATED:
        machine = read_machine(place(arch))
        if machine is None or machine.packages != {name: version(name) for name in PACKAGES}:
            _install(place(arch), partial(install_machine, arch))


def install_opencl(into: Path, work: Path) -> None:
    """Put the headers of OpenCL C of the newest fitting clang into the directory `into`."""
    apt = Apt(work / "apt")
    found = (re.fullmatch(r"libclang-common-(\d+)-dev", name) for name in apt.names("libclang-c"))
    versions = [int(match[1]) for match in found if match and int(match[1]) <= CLANG]
    if not versions:
        raise BuildError("apt knows no libclang-common-…-dev", "add Debian's or Ubuntu's main")
    root = work / "root"
    apt.unpack([f"libclang-common-{max(versions)}-dev"], root, alone=True)
    for name in ("opencl-c.h", "opencl-c-base.h"):
        header = next(root.rglob(name))
        shutil.copyfile(header, into / name)


def install_machine(arch: str, into: Path, work: Path) -> None:
    """Make the machine of an architecture in the directory `into`."""
    system = Apt(work / "system", DEBIAN[arch]).unpack(["python3", "libstdc++6"], into)
    tools = work / "tools"
    system |= Apt(work / "apt").unpack(["qemu-user-static"], tools)
    emulator = into / "emulator"
    candidates = (tools / f"usr/bin/qemu-{arch}{suffix}" for suffix in ("-static", ""))
    shutil.copy(next(path for path in candidates if path.is_file()), emulator)
    python = (into / "usr/bin/python3").resolve().name
    platforms = [f"--platform={name}_{arch}" for name in PLATFORMS]
    options = [
        *("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"),
        *(*platforms, "--implementation=cp", f"--python-version={python.removeprefix('python')}"),
        *(f"--target={into / SITE}", "--upgrade", f"--constraint={LOCK}"),
    ]
    _call([sys.executable, "-m", "pip", "install", *options, *PACKAGES])
    for compiler in (into / SITE / "tvm").rglob("libtvm_compiler.so"):
        compiler.unlink()  # a library is run by the runtime alone
    machine = Machine(
        emulator.name,
        re.sub(r" version |\s*\(.*", " ", _call([emulator, "--version"]).splitlines()[0]).strip(),
        f"usr/bin/{python}",
        {name: version(name) for name in PACKAGES},
        dict(sorted(system.items())),
    )
    text = json.dumps(asdict(machine), indent=2) + "\n"
    (into / DESCRIPTION).write_text(text, encoding="utf-8")
    run_emulated(into, ["-c", "import tokenizers, tvm.runtime.vm"], into, work)


def _install(place: Path, make: Callable[[Path, Path], None]) -> None:
    """Make a directory of tools, and move it to its place when it is whole."""
    sys.stderr.write(f"installing {place.name} for verification\n")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as work:
        into = Path(work) / place.name
        into.mkdir()
        make(into, Path(work))
        shutil.rmtree(place, ignore_errors=True)
        into.rename(place)


def _call(command: Sequence[str | Path], work: Path | None = None) -> str:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise BuildError(f"{' '.join(map(str, command))} failed: {lines[-1]}")
    return done.stdout


if __name__ == "__main__":
    try:
        main()
    except (BuildError, OlmoError) as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.exit(f"error: {error}{hint}")
