"""Build the TVM runtime for the web: nothing of any model is in it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.wasm.runtime import build_runtime

TOOLS = ("apache-tvm", "apache-tvm-ffi", "ziglang")  # whose sources and compiler they are


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:  # noqa: ARG001  (has none)
    """Write the object and the archive that libraries for WebAssembly are linked with."""
    with tempfile.TemporaryDirectory(dir=outputs.parent) as work:
        build_runtime(inputs / "native", outputs, Path(work))
