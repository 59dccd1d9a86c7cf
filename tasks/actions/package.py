"""Put together what a row of the release matrix gives its users, once it is verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Parameters that a manifest says; the numbers of devices only where there are several.
DESCRIBING = (
    "model",
    "quantization",
    "context_window_size",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
    "target",
)

# Makes an output of an input, and returns its sha256 and its size in bytes.
HandOn = Callable[[Path, Path], tuple[str, int]]

HANDS_ON = True  # whoever has verified the inputs knows them: weights are not read again


def link(source: Path, destination: Path) -> tuple[str, int]:
    """Make an output a hard link of an input, and read it to say what it is."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    os.link(source.resolve(), destination)
    with destination.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, destination.stat().st_size


def run(params: Mapping[str, Any], inputs: Path, outputs: Path, hand_on: HandOn = link) -> None:
    """Make the release directory and the library of inputs, and write a manifest beside it.

    The manifest names every file by sha256 and size, and says how the library was verified.
    """
    (library,) = (inputs / "library").iterdir()
    placed = {f"libs/{params['library']}": library}
    for path in sorted((inputs / "model").iterdir()):
        placed[f"{params['directory']}/{path.name}"] = path
    files = {}
    for place, path in placed.items():
        digest, size = hand_on(path, outputs / place)
        files[place] = {"sha256": digest, "size": size}
    manifest = {
        **{name: params[name] for name in DESCRIBING if name in params},
        "files": files,
        "verified": json.loads((inputs / "verify" / "report.json").read_bytes()),
    }
    beside = (outputs / "libs" / params["library"]).with_suffix(".json")
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
