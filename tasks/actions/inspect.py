"""Read a local checkpoint's configuration, and project it to what conversion depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.config import architecture
from olmo.model_config import CONFIG_JSON, ModelConfig, read_model_config

ARCHITECTURE = "architecture.json"


def write_architecture(config: ModelConfig, destination: Path) -> None:
    """Write the canonical architecture of a model.

    Raises OlmoError if the configuration is not that of an OLMo.
    """
    value = architecture(config.fields, config.where)
    text = json.dumps(value, sort_keys=True, indent=2)
    destination.write_text(text + "\n", encoding="ascii")


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:  # noqa: ARG001  (has none)
    """Write `config.json` and `architecture.json`; the former may come from a GGUF file.

    Raises OlmoError if there is no configuration, or if two disagree.
    """
    config = read_model_config(inputs)
    write_architecture(config, outputs / ARCHITECTURE)
    text = json.dumps(config.fields, indent=2)
    (outputs / CONFIG_JSON).write_text(text + "\n", encoding="ascii")
