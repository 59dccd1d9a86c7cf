"""ARCHITECTURE.md names every package, and no place that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("cache", "olmo", "tasks")


def places() -> set[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text[text.index("## Code map") : text.index("## Invariants")]
    return set(re.findall(r"`([\w./]+/)`", section))


def test_every_package_is_in_the_map() -> None:
    packages = {path.parent for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py")}
    assert {f"{package.relative_to(ROOT).as_posix()}/" for package in packages} <= places()


def test_every_place_of_the_map_is_there() -> None:
    assert [place for place in places() if not (ROOT / place).is_dir()] == []


def test_every_module_of_the_map_is_there() -> None:
    """Those before the description: `olmo/target(s), weights` are three modules of one directory."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `((?:cache|olmo|tasks)/[^`]*[^`/])` \|", text, re.MULTILINE)
    modules = set()
    for cell in named:
        directory, _, names = cell.rpartition("/")
        for name in names.split(", "):
            forms = [name.replace("(s)", ""), name.replace("(s)", "s")]
            modules |= {f"{directory}/{form}" for form in forms}
    assert len(modules) > 50
    assert [name for name in sorted(modules) if not (ROOT / f"{name}.py").is_file()] == []
