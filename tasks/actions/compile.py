"""Compile a lowered module to a library for one target."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.compilation.compile import compile_library
from olmo.target import Target
from olmo.toolchains.toolchain import tools

TOOLS = ("ziglang",)

SERIAL = True  # TVM keeps state of its own while it works


def programs(params: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the versions of the programs that `run` runs."""
    return tools(params["target"]["kind"])


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write the library, `library` with the target's suffix."""
    target = Target.from_json(params["target"])
    runtime = inputs / "runtime"
    with tempfile.TemporaryDirectory(dir=outputs.parent) as work:
        compile_library(
            (inputs / "module.json").read_bytes(),
            (inputs / "metadata.json").read_bytes(),
            target,
            outputs / f"library{target.suffix}",
            params["system_lib_prefix"],
            runtime if runtime.is_dir() else None,
            work=Path(work),
        )
