"""Verify a library for WebAssembly by running it in Node or Chromium."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.json_file import read_json
from olmo.quantization import Quantization
from olmo.wasm.verify import verify_on_cpu, verify_on_webgpu
from tasks.actions import check_library


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write `report.json`.

    Raises OlmoError if the library's logits are not those of the model.
    """
    (library,) = (inputs / "library").iterdir()
    model = inputs / "model"
    quantization = Quantization.from_json(params["quantization"])
    _, checks = check_library.check(params, inputs)
    if params["target"]["kind"] == "webgpu":
        questions = None
        if (inputs / "questions").is_dir():
            (file,) = (inputs / "questions").iterdir()
            questions = read_json(file)
        report = verify_on_webgpu(model, library, quantization, questions, checks)
    else:
        report = verify_on_cpu(model, library, quantization, checks)
    (outputs / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
