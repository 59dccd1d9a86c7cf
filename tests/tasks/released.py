"""A small dist/ with releases for the browser, and a site over it."""

import hashlib
import json
from pathlib import Path

from tasks.site import WEB_LLM, Site

PAGE = Path(__file__).resolve().parents[2] / "examples" / "web"


def site_in(root: Path) -> Site:
    """Make an empty dist/, a page and web-llm in a directory."""
    site = Site(root / "dist", root / "page", root / "web", frozenset({"webgpu", "my-browser"}))
    (site.dist / "libs").mkdir(parents=True)
    site.page.mkdir()
    for path in PAGE.iterdir():
        (site.page / path.name).write_bytes(path.read_bytes())
    (site.packages / WEB_LLM).parent.mkdir(parents=True)
    (site.packages / WEB_LLM).write_text("export {};")
    return site


def release(
    dist: Path, quantization: str, *, target: str = "webgpu", weights: bytes = b"weights"
) -> Path:
    """Write a release as tasks/actions/package.py does; return its manifest."""
    name = f"tiny-{quantization}"
    contents = {
        f"libs/{name}-{target}.wasm": b"\0asm",
        f"{name}-MLC/mlc-chat-config.json": b"{ }\n",
        f"{name}-MLC/params_shard_0.bin": weights,
    }
    files = {}
    for place, content in contents.items():
        path = dist / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        files[place] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    manifest = dist / "libs" / f"{name}-{target}.json"
    manifest.write_text(
        json.dumps({"quantization": quantization, "target": target, "files": files})
    )
    return manifest
