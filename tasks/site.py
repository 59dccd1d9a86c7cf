"""What `doit serve` serves: the page of examples/web, web-llm, and the libraries for WebGPU in dist/.

Addresses are looked up in a table of files, so nothing else can be read, whatever is asked for. A
model's address has the digest of its files: a browser that keeps what it has downloaded never
takes an old file for a new one.

| address | file |
|---|---|
| `/`, `/chat.js`, … | the page |
| `/web-llm/index.js` | npm `@mlc-ai/web-llm` |
| `/models/{digest}/resolve/main/{name}` | a file of a release directory |
| `/models/{digest}/library.wasm` | its library |
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.quantizations import quantization
from tasks.node import canonical_json

LIBRARIES = "libs"
PAGE = ("index.html", "style.css", "chat.js", "worker.js", "icon.svg")
WEB_LLM = "node_modules/@mlc-ai/web-llm/lib/index.js"


@dataclass(frozen=True)
class Site:
    """`dist` of a project, the directory of the page, and the one that has npm's packages.

    `targets` are the names of the targets whose libraries are for WebGPU.
    """

    dist: Path
    page: Path
    packages: Path
    targets: frozenset[str]


@dataclass(frozen=True)
class Model:
    """A release for WebGPU: its name, its files by address, and what a browser is told of it."""

    name: str
    files: dict[str, Path]
    record: dict[str, Any]


def models(site: Site) -> list[Model]:
    """Return the releases for WebGPU that are in dist/ now, by name.

    Raises:
        OlmoError: a manifest is unreadable, or names a file outside dist/.
    """
    manifests = sorted((site.dist / LIBRARIES).glob("*.json"))
    return [_model(site.dist, path, found) for path, found in _released(site, manifests)]


def addresses(site: Site) -> dict[str, Path]:
    """Return every file that can be read now, by its address.

    Raises:
        OlmoError: as `models`.
    """
    found = {f"/{name}": site.page / name for name in PAGE}
    found["/"] = site.page / PAGE[0]
    found["/web-llm/index.js"] = site.packages / WEB_LLM
    for model in models(site):
        found |= model.files
    return found


def _released(site: Site, manifests: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in manifests:
        manifest = read_json(path)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise OlmoError(f"{path} is no manifest of a release", "run doit to make it again")
        if manifest.get("target") in site.targets:
            yield path, manifest


def _model(dist: Path, path: Path, manifest: dict[str, Any]) -> Model:
    """Describe a release as web-llm's ModelRecord does, with `size` of its files in bytes."""
    digest = hashlib.sha256(canonical_json(manifest["files"]).encode()).hexdigest()[:32]
    base = f"/models/{digest}"
    files = {}
    for name in manifest["files"]:
        file = dist / name
        if not file.resolve().is_relative_to(dist.resolve()):
            raise OlmoError(f"{path} names a file outside {dist}: {name}")
        place = PurePosixPath(name)
        if place.parts[0] == LIBRARIES:
            files[f"{base}/library.wasm"] = file
        else:
            files[f"{base}/resolve/main/{place.name}"] = file
    half = quantization(manifest["quantization"]).model_dtype == "float16"
    record = {
        "model_id": path.stem,
        "model": f"{base}/resolve/main/",
        "model_lib": f"{base}/library.wasm",
        "required_features": ["shader-f16"] if half else [],
        "size": sum(file["size"] for file in manifest["files"].values()),
    }
    return Model(path.stem, files, record)
