"""Run a library with its weights: the model's questions, and its logits against the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.json_file import read_json
from olmo.quantization import Quantization
from olmo.verification.verify import verify

SERIAL = True  # TVM keeps state of its own while it works


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write `report.json`; without times, so that equal libraries have equal reports.

    Raises OlmoError if the library's logits are not those of the model.
    """
    (library,) = (inputs / "library").iterdir()
    questions = None
    if (inputs / "questions").is_dir():
        (file,) = (inputs / "questions").iterdir()
        questions = read_json(file)
    quantization = Quantization.from_json(params["quantization"])
    report = verify(inputs / "model", library, quantization, questions)
    (outputs / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
