"""Check a library without running it: what it is, and whether its kernels compile."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.target import Target
from olmo.verification.library_check import check_library
from olmo.verification.report import checked, unverified

TOOLS = ("ziglang",)  # the compiler of kernels


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> list[str]:
    """Write `report.json`, and warn where a tool is missing that would run or check the library.

    Raises OlmoError if the library is not what its target asks for.
    """
    summary, checks = check(params, inputs)
    missing = params["missing"]
    if missing is None:
        report = checked(summary, checks)
    else:
        report = unverified(missing["what"], missing["install"], checks)
    (outputs / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return [f"unverified: {missing['what']} ({missing['install']})"] if missing else []


def check(params: Mapping[str, Any], inputs: Path) -> tuple[str, list[str]]:
    """Check the library among the inputs; what it is in a few words, and each check in words."""
    (library,) = (inputs / "library").iterdir()
    headers = inputs / "opencl"
    with tempfile.TemporaryDirectory() as work:
        return check_library(
            library,
            Target.from_json(params["target"]),
            params["system_lib_prefix"] or "",
            inputs / "model",
            headers if headers.is_dir() else None,
            Path(work),
        )
