"""Convert a checkpoint to MLC's weight directory.

Weights stream through: row blocks are read, checked, quantized and encoded in a few threads, and
written in order by the caller's. Memory holds some blocks and the scales of one weight, whatever
the size of the model. Blocks are the same on every machine and with any number of threads, so are
the bytes and the report.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.checkpoint import open_checkpoint
from olmo.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.floats import F32, cast, overflow_limit
from olmo.group_quantization import Error, Scratch, error_of, quantize_with_error
from olmo.publish import staged
from olmo.quantization import Quantization
from olmo.source_tensor import SourceTensor
from olmo.tensor_cache import (
    BFLOAT16_MANIFEST,
    MANIFEST,
    Encoding,
    Writer,
    decode,
    encode,
    is_file_of_cache,
    plan_shards,
    stored_bytes,
)
from olmo.weights import Weight, is_quantized, is_transposed, parameters, stored, weights

# Large enough that numpy's cost per call vanishes, small enough for a processor's cache.
BLOCK_ELEMENTS = 1 << 18
MAX_THREADS = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class WeightError:
    """How far the stored values of one weight are from the checkpoint's, in absolute terms."""

    name: str
    max_error: float
    mean_error: float


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion made.

    `parameters` counts elements of the checkpoint, `tensors` stored tensors, `bytes` those of the
    shards, `bits_per_parameter` logical bits (float32 counted as 32, as in the manifest).
    """

    quantization: str
    parameters: int
    tensors: int
    bytes: int
    bits_per_parameter: float
    weights: tuple[WeightError, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows [start, stop) of one source of a weight; `last` if it ends the weight."""

    weight: Weight
    source: SourceTensor
    start: int
    stop: int
    last: bool


@dataclass(frozen=True, slots=True)
class _Converted:
    """A block's rows of each stored tensor, as stored."""

    block: _Block
    pieces: tuple[NDArray[Any], ...]
    error: Error


def convert(
    source: Path,
    config: OLMoConfig,
    quantization: Quantization,
    out: Path,
    progress: Progress | None = None,
    *,
    source_format: str = "auto",
    encoding: Encoding = "f32-to-bf16",
    threads: int | None = None,
) -> ConversionReport:
    """Convert the checkpoint at `source` into the weight directory `out`, whole or not at all.

    `progress(done, total)` is called with elements, from this thread. The same weights give the
    same bytes, however they are distributed over files. In an existing `out`, the weights are
    replaced and other files stay.

    Raises:
        OlmoError: a broken checkpoint (see `open_checkpoint`), a NaN, an infinity or a value
            beyond the model dtype in a weight, or an output that cannot be written.
    """
    plan = parameters(config, quantization)
    nbytes = sum(shard.nbytes for shard in plan_shards(plan, encoding))
    total = sum(math.prod(weight.shape) for weight in weights(config))
    errors: dict[str, Error] = {}
    done = 0
    with (
        open_checkpoint(source, config, source_format) as tensors,
        staged(
            out, manifests=(MANIFEST, BFLOAT16_MANIFEST), stale=is_file_of_cache, nbytes=nbytes
        ) as directory,
        Writer(directory, plan, encoding) as writer,
    ):
        held: list[tuple[NDArray[Any], ...]] = []
        for converted in _converted(config, tensors, quantization, encoding, threads):
            weight, error = converted.block.weight, converted.error
            _write(writer, converted, held, quantization)
            errors[weight.name] = _joined(errors.get(weight.name), error)
            done += error.elements
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
        weights=tuple(
            WeightError(name, error.largest, error.total / error.elements)
            for name, error in errors.items()
        ),
    )


def _blocks(config: OLMoConfig, tensors: Mapping[str, SourceTensor]) -> Iterator[_Block]:
    for weight in weights(config):
        rows = max(1, BLOCK_ELEMENTS // weight.shape[1])
        for source in weight.sources:
            count = source.shape[0]
            final = source is weight.sources[-1]
            for start in range(0, count, rows):
                stop = min(start + rows, count)
                tensor = tensors[source.name]
                yield _Block(weight, tensor, start, stop, last=final and stop == count)


def _converted(
    config: OLMoConfig,
    tensors: Mapping[str, SourceTensor],
    quantization: Quantization,
    encoding: Encoding,
    threads: int | None,
) -> Iterator[_Converted]:
    """Yield every block of the model, converted, in order."""
    local = threading.local()

    def run(block: _Block) -> _Converted:
        if not hasattr(local, "worker"):
            local.worker = _Worker(quantization, encoding)
        worker: _Worker = local.worker
        return worker.convert(block)

    count = threads or min(_processors(), MAX_THREADS)
    with ThreadPoolExecutor(count) as pool:
        ahead: deque[Future[_Converted]] = deque()
        try:
            for block in _blocks(config, tensors):
                ahead.append(pool.submit(run, block))
                if len(ahead) > 2 * count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write(
    writer: Writer,
    converted: _Converted,
    held: list[tuple[NDArray[Any], ...]],
    quantization: Quantization,
) -> None:
    """Write the rows of the weight's first tensor now; hold those of the others until its end.

    A transposed tensor has no rows to write before all of it is there, so both are held.
    """
    weight, pieces = converted.block.weight, converted.pieces
    tensors = stored(weight, quantization)
    transposed = len(tensors) > 1 and is_transposed(weight, quantization)
    now = 0 if transposed else 1
    for tensor, piece in zip(tensors[:now], pieces[:now], strict=True):
        writer.append(tensor.name, piece)
    held.append(pieces[now:])
    if converted.block.last:
        for tensor, rows in zip(tensors[now:], zip(*held, strict=True), strict=True):
            whole = np.concatenate(rows)
            writer.append(tensor.name, whole.T if transposed else whole)
        held.clear()


def _joined(error: Error | None, other: Error) -> Error:
    if error is None:
        return other
    return Error(
        max(error.largest, other.largest),
        error.total + other.total,
        error.elements + other.elements,
    )


class _Worker:
    """Converts blocks in one thread, with that thread's buffers."""

    def __init__(self, quantization: Quantization, encoding: Encoding) -> None:
        self._quantization = quantization
        self._encoding = encoding
        self._buffers = Scratch()
        self._columns = Scratch()

    def convert(self, block: _Block) -> _Converted:
        """Read, check, quantize and encode a block."""
        q, encoding = self._quantization, self._encoding
        shape = (block.stop - block.start, block.weight.shape[1])
        w, scratch, _ = self._buffers.columns(shape)
        block.source.read_rows(block.start, block.stop, w)
        _check_values(w, scratch, block, q)
        if is_quantized(block.weight, q):
            words, scale, error = quantize_with_error(
                w,
                q,
                self._columns,
                transposed=is_transposed(block.weight, q),
                bfloat16_scales=encoding == "f32-to-bf16",
            )
            return _Converted(block, (words, encode(scale, encoding)), error)
        values = w if q.model_dtype == "float32" else cast(w, q.model_dtype)
        piece = encode(values, encoding, scratch.view(np.uint32))
        if piece is w:
            piece = w.copy()  # the buffer is used again
        return _Converted(block, (piece,), error_of(decode(piece, scratch), w))


def _check_values(w: F32, scratch: F32, block: _Block, q: Quantization) -> None:
    """Refuse what has no meaning as a weight, or none in the model dtype."""
    largest = float(np.abs(w, out=scratch).max())
    if largest < overflow_limit(q.model_dtype):  # false for NaN
        return
    where = f"{block.source.file}: tensor {block.source.name!r}"
    if not math.isfinite(largest):
        row, column = np.argwhere(~np.isfinite(w))[0]
        value = float(w[row, column])
        raise OlmoError(f"{where}: {value} at row {block.start + row}, column {column}")
    raise OlmoError(f"{where}: {largest:g} is beyond {q.model_dtype}", "choose q0f32 or q4f32_1")
