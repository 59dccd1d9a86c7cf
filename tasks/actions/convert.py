"""Convert a checkpoint's weights to one quantization."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.config import OLMoConfig
from olmo.convert import convert
from olmo.quantization import quantization


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write `tensor-cache.json`, the shards, and `report.json` with sizes and errors.

    On hosts that `inputs/kernels` has no kernels for, numpy gives the same bytes.
    """
    architecture = json.loads((inputs / "architecture.json").read_bytes())
    config = OLMoConfig.from_architecture(architecture)
    report = convert(
        inputs / "checkpoint",
        config,
        quantization(params["quantization"]),
        outputs,
        kernels=inputs / "kernels",
    )
    text = json.dumps(report.to_json(), indent=2)
    (outputs / "report.json").write_text(text + "\n", encoding="ascii")
