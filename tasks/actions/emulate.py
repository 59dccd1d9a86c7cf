"""Verify a library of another architecture: check it, and run the action `verify` emulated."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.verification.emulator import DESCRIPTION, place, run_emulated
from olmo.verification.report import executed
from tasks.actions import check_library, verify


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write `report.json`: that of `verify` under the emulator.

    Raises OlmoError as `verify` and `check_library` do, and if the emulated machine is not the one
    among the inputs.
    """
    _, checks = check_library.check(params, inputs)
    arch = params["target"]["tvm"]["mtriple"].partition("-")[0]
    directory = place(arch)
    described = directory / DESCRIPTION
    if not described.is_file() or (
        described.read_bytes() != (inputs / arch / DESCRIPTION).read_bytes()
    ):
        raise OlmoError(
            f"the emulated {arch} machine is another one than when the build began",
            "run doit again",
        )
    with tempfile.TemporaryDirectory(dir=outputs.parent) as work:
        root = Path(work)
        (root / "params.json").write_text(json.dumps(params), encoding="utf-8")
        (root / "tools.json").write_text(json.dumps({"packages": {}, "programs": {}}))  # its own
        (root / "inputs").symlink_to(inputs.absolute())
        modules = Path(verify.__file__).parents[2]
        machine = run_emulated(
            directory, ["-m", verify.__package__, verify.__name__], modules, root
        )
        ran = read_json(root / "outputs" / "report.json")
    report = executed(f"under {machine.version}", ran["accuracy"], checks)
    (outputs / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
