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
