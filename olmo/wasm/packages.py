"""The programs that run libraries for WebAssembly, and the packages of npm that they use."""

import shutil
import subprocess
from pathlib import Path

from olmo.errors import OlmoError

JS = Path(__file__).parent / "js"
# What the pinned packages are installed from, by `npm ci`.
LOCK = ("package.json", "package-lock.json")
# Under these names distributions have the browser.
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def has_packages(directory: Path) -> bool:
    """Whether the packages of this version of Olmill are installed in `directory`."""
    try:
        same = all((directory / n).read_bytes() == (JS / n).read_bytes() for n in LOCK)
    except OSError:
        return False
    return same and (directory / "node_modules" / ".package-lock.json").is_file()


def node() -> str | None:
    """Return the path of Node, None if it is not installed."""
    return shutil.which("node")


def chromium() -> str | None:
    """Return the path of a Chromium, None if none is installed."""
    return next(filter(None, map(shutil.which, _CHROMIUM)), None)


def install(directory: Path) -> None:
    """Install the packages into `directory`, with the digests that the lock has for them.

    Raises:
        OlmoError: npm is not installed, or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise OlmoError("npm is not installed", "sudo apt-get install nodejs npm")
    for name in LOCK:
        shutil.copyfile(JS / name, directory / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise OlmoError(f"npm failed: {lines[-1]}")
