"""Hooks of mkdocs.yml: pages that lie elsewhere, and the reference of the code.

Markdown in the repository is written to be read there. Here the pages of the root directory join
those of docs/, links to them are turned, and links to files that are no pages lose their address.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # of the site, by their place in the repository
    "README.md": "readme.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "bench/RESULTS.md": "results.md",
}
LAYERS = ("cache", "olmo", "tasks")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]*)(#[^)]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root directory, and one of reference for each package."""
    for place, name in PAGES.items():
        content = (ROOT / place).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=content))
    for name, content in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page to what they are on the site."""
    here = {name: place for place, name in PAGES.items()}.get(
        page.file.src_uri, f"docs/{page.file.src_uri}"
    )
    if here.startswith("docs/reference/"):
        return markdown
    done, pieces = 0, []
    for fence in _FENCE.finditer(markdown):
        pieces += [_linked(markdown[done : fence.start()], here, page), fence[0]]
        done = fence.end()
    return "".join([*pieces, _linked(markdown[done:], here, page)])


def _linked(text: str, here: str, page: Any) -> str:
    def turned(match: re.Match[str]) -> str:
        words, address, anchor = match[1], match[2], match[3] or ""
        if not address or "://" in address:
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(here), address))
        target = PAGES.get(place) or place.removeprefix("docs/")
        if not place.endswith(".md") or (target == place and "/" in place):
            return words
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"[{words}]({posixpath.relpath(target, start)}{anchor})"

    return _LINK.sub(turned, text)


def reference() -> dict[str, str]:
    """Return the pages of the reference: of each package its modules, by the package's name."""
    pages: dict[str, list[str]] = {}
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1].startswith("_") or path.name.endswith("_pb2.py"):
                continue
            pages.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    links = "".join(f"- [`{name}`]({name}.md)\n" for name in pages)
    found = {"index": f"# Reference\n\nEvery public name of the code, by package.\n\n{links}"}
    for name, modules in pages.items():
        found[name] = f"# {name}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n"
    return found
