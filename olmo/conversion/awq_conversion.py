"""Convert a checkpoint that AWQ has quantized: its words are stored as they are.

Only the parts of a fused linear are put side by side, along the outputs (axis 1 of the transposed
layout). Embedding and head become float16.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.checkpoints.checkpoint import open_checkpoint
from olmo.checkpoints.source_tensor import SourceTensor, read_exactly
from olmo.codecs.floats import cast, overflow_limit
from olmo.configuration.config import OLMoConfig
from olmo.conversion.tensor_cache import (
    BFLOAT16_MANIFEST,
    MANIFEST,
    Writer,
    is_file_of_cache,
    plan_shards,
    stored_bytes,
)
from olmo.conversion.weight_output import ConversionReport, WeightError
from olmo.errors import OlmoError
from olmo.publish import staged
from olmo.quantization import Quantization
from olmo.weights import (
    Weight,
    awq_sources,
    is_prequantized,
    parameters,
    sources,
    stored,
    weights,
)

BLOCK_BYTES = 4 << 20

Progress = Callable[[int, int], None]


def convert_awq(
    source: Path,
    config: OLMoConfig,
    quantization: Quantization,
    out: Path,
    progress: Progress | None = None,
    *,
    source_format: str = "auto",
) -> ConversionReport:
    """Convert the AWQ checkpoint at `source` into the weight directory `out`, whole or not at all.

    `progress(done, total)` is called with elements. Elements, and bits for each, are those of the
    weights before AWQ packed them.

    Raises:
        OlmoError: a broken checkpoint or one without AWQ's tensors, a scale or weight that is no
            number or beyond float16, or an output that cannot be written.
    """
    plan = parameters(config, quantization)
    nbytes = sum(shard.nbytes for shard in plan_shards(plan, "raw"))
    total = sum(math.prod(weight.shape) for weight in weights(config))
    errors: list[WeightError] = []
    done = 0
    with (
        open_checkpoint(source, config, source_format, sources(config, quantization)) as tensors,
        staged(
            out, manifests=(MANIFEST, BFLOAT16_MANIFEST), stale=is_file_of_cache, nbytes=nbytes
        ) as directory,
        Writer(directory, plan, "raw") as writer,
    ):
        for weight in weights(config):
            if is_prequantized(weight, quantization):
                _copy(weight, quantization, tensors, writer)
                errors.append(WeightError(weight.name, 0.0, 0.0))
            else:
                errors.append(_cast(weight, quantization, tensors, writer))
            done += math.prod(weight.shape)
            if progress is not None:
                progress(done, total)
        writer.finish(total)
    logical = sum(stored_bytes(parameter, "raw") for parameter in plan)
    return ConversionReport(
        quantization=quantization.name,
        parameters=total,
        tensors=len(plan),
        bytes=nbytes,
        bits_per_parameter=logical * 8.0 / total,
        weights=tuple(errors),
    )


def _copy(
    weight: Weight,
    quantization: Quantization,
    tensors: Mapping[str, SourceTensor],
    writer: Writer,
) -> None:
    """Write words, zeros and scales of a linear, its parts side by side."""
    parts = zip(*(awq_sources(s, quantization) for s in weight.sources), strict=True)
    for parameter, beside in zip(stored(weight, quantization), parts, strict=True):
        rows = max(1, BLOCK_BYTES // (4 * parameter.shape[1]))
        for start, stop in _blocks(parameter.shape[0], rows):
            read = _read_words if beside[0].packed else _read_halves
            piece = [read(tensors[source.name], start, stop) for source in beside]
            writer.append(parameter.name, np.concatenate(piece, axis=1))


def _cast(
    weight: Weight,
    quantization: Quantization,
    tensors: Mapping[str, SourceTensor],
    writer: Writer,
) -> WeightError:
    """Write a weight that is not quantized, in the model dtype."""
    (parameter,) = stored(weight, quantization)
    (source,) = weight.sources
    largest, summed = 0.0, 0.0
    for start, stop in _blocks(weight.shape[0], max(1, BLOCK_BYTES // (4 * weight.shape[1]))):
        values = _read_floats(tensors[source.name], start, stop, quantization.model_dtype)
        piece = cast(values, quantization.model_dtype)
        writer.append(parameter.name, piece)
        error = np.abs(piece.astype(np.float32) - values)
        largest = max(largest, float(error.max()))
        summed += float(error.sum(dtype=np.float64))
    return WeightError(weight.name, largest, summed / math.prod(weight.shape))


def _blocks(rows: int, count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + count, rows)) for start in range(0, rows, count))


def _read_words(tensor: SourceTensor, start: int, stop: int) -> NDArray[Any]:
    """Return rows of packed words, the signed integers of the file taken as unsigned."""
    columns = tensor.shape[1]
    if tensor.strides not in {None, (columns, 1)}:
        raise OlmoError(
            f"{tensor.file}: tensor {tensor.name!r} is transposed",
            "save the checkpoint again with transformers: model.save_pretrained(…)",
        )
    words = np.empty((stop - start, columns), "<u4")
    offset = tensor.offset + start * columns * words.itemsize
    into = words.reshape(-1).view(np.uint8).data
    read_exactly(tensor.descriptor, into, offset, tensor.file, tensor.name)
    return words


def _read_halves(tensor: SourceTensor, start: int, stop: int) -> NDArray[Any]:
    return cast(_read_floats(tensor, start, stop, "float16"), "float16")


def _read_floats(tensor: SourceTensor, start: int, stop: int, dtype: str) -> NDArray[np.float32]:
    """Return rows as float32; each value fits `dtype`."""
    values = tensor.read_rows(start, stop, np.empty((stop - start, tensor.shape[1]), np.float32))
    fits = np.abs(values) < overflow_limit(dtype)  # false for NaN
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        raise OlmoError(
            f"{tensor.file}: tensor {tensor.name!r}: {float(values[row, column])} at row "
            f"{start + row}, column {column}, is no {dtype}"
        )
    return values
