"""The programs that run libraries for WebAssembly, and the packages of npm that they use."""

import shutil
import sys
from pathlib import Path

JS = Path(__file__).parent / "js"
# What the pinned packages are installed from, by `npm ci`.
LOCK = ("package.json", "package-lock.json")
# Under these names distributions have the browser.
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def packages(prefix: Path = Path(sys.prefix)) -> Path:
    """Return where the packages are, or belong, in the Python environment `prefix`."""
    return prefix / "share" / "olmill" / "web"


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
