"""Install Olmill into `.venv` beside this file: `python3 bootstrap.py [test|docs|…]`.

Creates the virtual environment if there is none, and installs exactly the versions of
requirements.lock, with the extras that are named. Needs Python 3.11 or newer with its `venv`
module, and the package index; nothing else of the system is touched.
"""

import os
import subprocess
import sys

NEEDED = (3, 11)
HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
EXTRAS = ("cuda", "remote", "test", "train", "trust", "verify")


def fail(message, hint):
    """End with one message and the way out."""
    sys.stderr.write("error: %s\nhint: %s\n" % (message, hint))
    sys.exit(1)


def run(*command):
    """Run a program; its failure is ours."""
    code = subprocess.call(command)
    if code:
        fail("%s ended with %d" % (" ".join(command[:4]), code), "the lines above say why")


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
    if not os.path.exists(os.path.join(VENV, "pyvenv.cfg")) or not os.path.exists(python):
        try:
            import ensurepip  # noqa: F401, PLC0415  (Debian packages it apart from Python)
        except ImportError:
            fail(
                "this Python cannot make virtual environments",
                "on Debian and Ubuntu: sudo apt-get install python3-venv",
            )
        run(sys.executable, "-m", "venv", VENV)
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    project = HERE + ("[%s]" % ",".join(extras) if extras else "")
    lock = os.path.join(HERE, "requirements.lock")
    run(*pip, "--constraint", lock, "--editable", project)
    if "verify" in extras:
        run(python, "-m", "tasks.verification_tools")


if __name__ == "__main__":
    main(sys.argv[1:])
