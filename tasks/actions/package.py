"""Put together what a row of the release matrix gives its users, once it is verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
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


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write the release directory, the library, and beside it a manifest of both.

    Files are hard links of the inputs. The manifest names every file by sha256 and size, and says
    how the library was verified.
    """
    (library,) = (inputs / "library").iterdir()
    placed = {f"libs/{params['library']}": library}
    for path in sorted((inputs / "model").iterdir()):
        placed[f"{params['directory']}/{path.name}"] = path
    files = {}
    for place, path in placed.items():
        destination = outputs / place
        destination.parent.mkdir(parents=True, exist_ok=True)
        os.link(path.resolve(), destination)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[place] = {"sha256": digest, "size": path.stat().st_size}
    manifest = {
        **{name: params[name] for name in DESCRIBING if name in params},
        "files": files,
        "verified": json.loads((inputs / "verify" / "report.json").read_bytes()),
    }
    beside = (outputs / "libs" / params["library"]).with_suffix(".json")
    beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
