"""Install Olmill into `.venv` beside this file: `python3 bootstrap.py [test|docs|...]`.

Creates the virtual environment if there is none, and installs exactly the versions of
requirements.lock, with the extras that are named. Needs Python 3.11 or newer with its `venv`
module, and the package index; nothing else of the system is touched.
"""

import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

NEEDED = (3, 11)
HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
EXTRAS = ("cuda", "docs", "remote", "test", "train", "trust", "verify")

# What pip says, and what it means: (pattern, message, hint). The first that is found counts.
FAILURES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "make room below %s: an installation takes 2 GB" % HERE,
    ),
    (
        r"NewConnectionError|Failed to establish|NameResolution|ProxyError|ConnectTimeout|SSLError",
        "the package index cannot be reached",
        "check the network, and HTTPS_PROXY and PIP_INDEX_URL if you need them",
    ),
    (
        r"(?:No matching distribution found for|The user requested \(constraint\)) (\S+)",
        "there is no package {0} for Python %d.%d on %s %s"
        % (sys.version_info[:2] + (platform.system(), platform.machine())),
        "Olmill builds on Linux (glibc 2.28 or newer, x86-64 or AArch64) with Python 3.11 to 3.13",
    ),
    (r"Permission denied: '?([^']+)", "{0} may not be written to", "make sure that you own it"),
)


def fail(message, hint):
    """End with one message and the way out."""
    sys.stderr.write("error: %s\nhint: %s\n" % (message, hint))
    sys.exit(1)


def explain(command, code, said):
    """End with what a program's failure means; `said` is what it wrote."""
    for pattern, message, hint in FAILURES:
        found = re.search(pattern, said)
        if found:
            fail(message.format(*found.groups()), hint)
    fail("%s ended with %d" % (" ".join(command[:4]), code), "the lines above say why")


def watch(command):
    """Run a program and show what it writes; returns its exit code, and that."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, universal_newlines=True)
    said = []
    for line in process.stderr:
        sys.stderr.write(line)
        said.append(line)
    return process.wait(), "".join(said)


def run(*command):
    """Run a program and show what it writes; its failure is ours."""
    code, said = watch(command)
    if code:
        explain(command, code, said)


def install(python, project, lock):
    """Install a project with the versions of a lock; why that fails, often pip's log alone says."""
    directory = tempfile.mkdtemp()
    log = os.path.join(directory, "pip.log")
    try:
        pip = (python, "-m", "pip", "install", "--quiet", "--progress-bar", "off")
        pip += ("--disable-pip-version-check", "--log", log)
        code, said = watch(pip + ("--constraint", lock, "--editable", project))
        if code:
            with io.open(log, encoding="utf-8", errors="replace") as lines:
                explain(pip, code, said + lines.read())
    finally:
        shutil.rmtree(directory)


def check_environment(python):
    """Refuse an environment of another Python, of which pip would say less."""
    try:
        said = subprocess.check_output((python, "-c", "import sys; print(*sys.version_info[:3])"))
    except (OSError, subprocess.CalledProcessError):
        return  # broken: it is made again
    version = tuple(int(part) for part in said.split())
    if version < NEEDED:
        fail(
            "the environment in .venv has Python %s" % ".".join(str(part) for part in version),
            "remove .venv, and run bootstrap.py again with Python %d.%d or newer" % NEEDED,
        )


def make_environment(python):
    """Make the virtual environment, or finish one that was interrupted."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    is_there = os.path.exists(os.path.join(VENV, "pyvenv.cfg")) and os.path.exists(python)
    if is_there:
        check_environment(python)
    if is_there and subprocess.call((python, "-m", "pip", "--version"), **quiet) == 0:
        return
    try:
        import ensurepip  # noqa: F401, PLC0415  (Debian packages it apart from Python)
    except ImportError:
        fail(
            "this Python cannot make virtual environments",
            "on Debian and Ubuntu: sudo apt-get install python3-venv",
        )
    run(sys.executable, "-m", "venv", VENV)


def main(extras):
    """Make the environment and install into it."""
    if sys.version_info < NEEDED:
        fail(
            "this is Python %d.%d, Olmill needs %d.%d or newer" % (sys.version_info[:2] + NEEDED),
            "run bootstrap.py with a newer one, such as python3.12",
        )
    unknown = [extra for extra in extras if extra not in EXTRAS]
    if unknown:
        fail("unknown extra %s" % unknown[0], "known: %s" % ", ".join(EXTRAS))
    binaries = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
    python = os.path.join(binaries, "python")
    make_environment(python)
    project = HERE + ("[%s]" % ",".join(extras) if extras else "")
    lock = os.path.join(HERE, "requirements.lock")
    install(python, project, lock)
    if "verify" in extras:
        run(python, "-m", "tasks.verification_tools")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: run bootstrap.py again to go on\n")
        sys.exit(130)
