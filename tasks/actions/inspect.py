"""Project a local checkpoint's config.json to what conversion depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.config import architecture
from olmo.json_file import read_json


def write_architecture(config: Path, destination: Path) -> None:
    """Write the canonical architecture of a `config.json`.

    Raises OlmoError if the file is not JSON, or not the configuration of an OLMo.
    """
    text = json.dumps(architecture(read_json(config)), sort_keys=True, indent=2)
    destination.write_text(text + "\n", encoding="ascii")


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:  # noqa: ARG001  (has none)
    """Write `architecture.json`."""
    write_architecture(inputs / "config.json", outputs / "architecture.json")
