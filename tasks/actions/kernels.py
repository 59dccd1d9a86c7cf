"""Compile the kernels of conversion for one kind of host: nothing of any model is in them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.codecs.codec import file_name
from olmo.codecs.kernel_library import build_kernels

TOOLS = ("ziglang",)

SERIAL = True  # TVM keeps state of its own while it works


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:  # noqa: ARG001  (has none)
    """Write `kernels-{host}.so`."""
    host = params["host"]
    with tempfile.TemporaryDirectory(dir=outputs.parent) as work:
        build_kernels(host, outputs / file_name(host), Path(work))
