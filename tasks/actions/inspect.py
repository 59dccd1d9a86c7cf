"""Read a local checkpoint's configuration, and project it to what conversion depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.checkpoints.model_config import CONFIG_JSON, read_gguf_tokenizer, read_model_config
from olmo.configuration.config import architecture

ARCHITECTURE = "architecture.json"
GGUF_TOKENIZER = "gguf-tokenizer.json"


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:  # noqa: ARG001  (has none)
    """Write `config.json` and what `describe` does; the former may come from a GGUF file.

    Raises OlmoError if there is no configuration, or if two disagree.
    """
    for name, content in describe(inputs).items():
        (outputs / name).write_bytes(content)


def describe(checkpoint: Path) -> dict[str, bytes]:
    """Return `config.json`, `architecture.json` and, of a GGUF file, `gguf-tokenizer.json`.

    The second is the canonical part of the first that weights depend on, the third what the file
    says of its tokenizer: neither changes with the weights.

    Raises OlmoError if the configuration is not there, broken, or not that of an OLMo.
    """
    config = read_model_config(checkpoint)
    found = {
        CONFIG_JSON: _encoded(config.fields),
        ARCHITECTURE: _encoded(architecture(config.fields, config.where), sort_keys=True),
    }
    tokenizer = read_gguf_tokenizer(checkpoint)
    if tokenizer is not None:
        found[GGUF_TOKENIZER] = _encoded(tokenizer, sort_keys=True)
    return found


def _encoded(value: Mapping[str, Any], *, sort_keys: bool = False) -> bytes:
    return (json.dumps(value, sort_keys=sort_keys, indent=2) + "\n").encode("ascii")
