"""Lower a model to an IRModule for one kind of target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo.configuration.compile_spec import CompileSpec
from olmo.modeling.lower import lower

SERIAL = True  # TVM keeps state of its own while it works


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:
    """Write `module.json` and `metadata.json`."""
    spec = CompileSpec.from_json((inputs / "compile-spec.json").read_bytes())
    module, metadata = lower(spec, params["kind"])
    (outputs / "module.json").write_bytes(module)
    (outputs / "metadata.json").write_bytes(metadata)
