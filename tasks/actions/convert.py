"""Convert a checkpoint's weights to one quantization, or to several in one pass over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo.configuration.config import OLMoConfig
from olmo.conversion.convert import Progress, convert, convert_all
from olmo.conversion.weight_output import ConversionReport, Output
from olmo.quantization import SHORTENED, Quantization

PROGRESS = True


def run(
    params: Mapping[str, Any], inputs: Path, outputs: Path, progress: Progress | None = None
) -> None:
    """Write `tensor-cache.json`, the shards, and `report.json` with sizes and errors.

    On hosts that `inputs/kernels` has no kernels for, numpy gives the same bytes.
    """
    run_batch([(params, outputs)], inputs, progress)


def run_batch(
    jobs: Sequence[tuple[Mapping[str, Any], Path]], inputs: Path, progress: Progress | None = None
) -> None:
    """Write, for the parameters of each job, what `run` does to the job's directory."""
    outputs = [_output(params, made) for params, made in jobs]
    shown = None if progress is None else _in_bytes(progress, inputs / "checkpoint")
    for output, report in zip(outputs, _converted(inputs, outputs, shown), strict=True):
        text = json.dumps(report.to_json(), indent=2)
        (output.directory / "report.json").write_text(text + "\n", encoding="ascii")


def _output(params: Mapping[str, Any], made: Path) -> Output:
    chosen = Quantization.from_json(params["quantization"])
    encoding = chosen.encoding(params.get("encoding", SHORTENED))
    return Output(chosen, made, encoding, params.get("shards", 1))


def _converted(
    inputs: Path, outputs: Sequence[Output], progress: Progress | None
) -> Sequence[ConversionReport]:
    source, kernels = inputs / "checkpoint", inputs / "kernels"
    architecture = json.loads((inputs / "architecture.json").read_bytes())
    config = OLMoConfig.from_architecture(architecture)
    if all(output.quantization.kind != "awq" for output in outputs):
        return convert_all(source, config, outputs, progress, kernels=kernels)
    return [  # AWQ's words are copied: there is no work to share
        convert(
            source, config, o.quantization, o.directory, progress, shards=o.shards, kernels=kernels
        )
        for o in outputs
    ]


def _in_bytes(progress: Progress, checkpoint: Path) -> Progress:
    """Return a function of elements that tells `progress` of bytes of the checkpoint's files."""
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    return lambda done, total: progress(size * done // total, size)
