"""One weight directory while it is made: where each row goes, and what is known of its errors."""

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.codec import Codec
from olmo.codecs.float8 import UNCALIBRATED, matrix_scale
from olmo.codecs.floats import F32, encode_bfloat16
from olmo.codecs.group_quantization import group_codec
from olmo.codecs.numpy_codec import STORED
from olmo.codecs.row_errors import RowErrors, largest_of, total_of
from olmo.configuration.config import OLMoConfig
from olmo.conversion.tensor_cache import (
    BFLOAT16_MANIFEST,
    MANIFEST,
    Writer,
    is_file_of_cache,
    plan_shards,
    stored_bytes,
    stored_dtype,
)
from olmo.conversion.weight_block import Encoded
from olmo.parallel import division, placed
from olmo.publish import staged
from olmo.quantization import Encoding, Quantization
from olmo.weights import Weight, is_quantized, is_transposed, part_name, stored


@dataclass(frozen=True, slots=True)
class Output:
    """A weight directory to make; with `shards` it holds the parts of so many devices."""

    quantization: Quantization
    directory: Path
    encoding: Encoding = "f32-to-bf16"
    shards: int = 1


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


class OutputInProgress:
    """A context in which an output is made; published when the block succeeds, else removed.

    Rows are put in place by any threads and hashed by one of its own, in order.

    Raises:
        OlmoError: the weights cannot be divided over the shards, the disk is full, or the directory
            cannot be written.
    """

    def __init__(self, output: Output, config: OLMoConfig) -> None:
        self.output = output
        divided = config.with_overrides(tensor_parallel_shards=output.shards)
        tensors = placed(divided, output.quantization)
        self._plan = [parameter for tensor in tensors for parameter in tensor.presharded]
        self._nbytes = sum(shard.nbytes for shard in plan_shards(self._plan, output.encoding))
        self._errors: list[WeightError] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        encoding, files = self.output.encoding, (MANIFEST, BFLOAT16_MANIFEST)
        with ExitStack() as stack:
            directory = stack.enter_context(
                staged(
                    self.output.directory,
                    manifests=files,
                    stale=is_file_of_cache,
                    nbytes=self._nbytes,
                )
            )
            self.writer = stack.enter_context(Writer(directory, self._plan, encoding))
            self._lane = stack.enter_context(ThreadPoolExecutor(1))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._lane.shutdown(cancel_futures=True)
        return self._stack.__exit__(kind, error, traceback)

    def hash_later(self, place: "WeightPlace", encoded: Encoded, *, last: bool) -> Future[None]:
        """Hash rows that are in place, after those before them; `last` if they end the weight."""
        return self._lane.submit(self._hash, place, encoded, last=last)

    def finish(self, elements: int) -> ConversionReport:
        """Write the manifests; `elements` is the number of parameters before quantization."""
        self.writer.finish(elements)
        logical = sum(stored_bytes(parameter, "raw") for parameter in self._plan)
        return ConversionReport(
            quantization=self.output.quantization.name,
            parameters=elements,
            tensors=len(self._plan),
            bytes=self._nbytes,
            bits_per_parameter=logical * 8.0 / elements,
            weights=tuple(self._errors),
        )

    def _hash(self, place: "WeightPlace", encoded: Encoded, *, last: bool) -> None:
        place.hash(encoded)
        if last:
            self._errors.append(place.finish())


class WeightPlace:
    """Where the rows of one weight go in one output.

    Rows of its first tensor are in the file's order, and go there at once. Others wait in memory
    until the weight ends: scales, and all tensors that are transposed or divided. Where the whole weight has
    one scale, `needs_largest` is true, and `see_largest` comes before any rows.
    """

    def __init__(self, making: OutputInProgress, weight: Weight) -> None:
        q, encoding = making.output.quantization, making.output.encoding
        self.codec = _codec(weight, q, encoding)
        self.scale: F32 | None = None
        self._weight = weight
        self._writer = making.writer
        tensors = stored(weight, q)
        divisions = [division(weight, tensor, making.output.shards) for tensor in tensors]
        self._transposed = bool(self.codec.bits) and is_transposed(weight, q)
        self._first = None if self._transposed or divisions[0] is not None else tensors[0]
        self._waiting = [
            (t.name, d, np.empty(t.shape, STORED[stored_dtype(t.dtype, encoding)]))
            for t, d in zip(tensors, divisions, strict=True)
            if t is not self._first
        ]
        self._errors: list[RowErrors] = []

    @property
    def needs_largest(self) -> bool:
        """Whether the largest magnitude of the weight has to be known."""
        return bool(self.codec.scale)

    def see_largest(self, largest: float) -> None:
        """Take the largest magnitude of the weight, and find its scale."""
        self.scale = matrix_scale(largest)
        for name, _, whole in self._waiting:
            if not name.endswith(".q_weight"):
                value = self.scale if name.endswith(".q_scale") else UNCALIBRATED
                whole[...] = encode_bfloat16(value) if self.codec.scale == "bfloat16" else value

    def put(self, row: int, encoded: Encoded) -> None:
        """Put rows, from `row` of the weight on, in place; from any thread."""
        if self._first is not None:
            self._writer.place(self._first.name, row * encoded.out[0].nbytes, encoded.out)
        # A scale of the whole weight, which comes last, has no rows.
        for (_, _, whole), rows in zip(self._waiting, self._rows_that_wait(encoded), strict=False):
            if self._transposed:
                whole[:, row : row + len(rows)] = rows.T
            else:
                whole[row : row + len(rows)] = rows

    def hash(self, encoded: Encoded) -> None:
        """Hash the next rows, which have been put in place."""
        if self._first is not None:
            self._writer.hash(self._first.name, encoded.out)
        self._errors.append(encoded.errors)

    def finish(self) -> WeightError:
        """Write what waits, after the last rows; return the errors of the weight."""
        for name, divided, whole in self._waiting:
            if divided is None:
                self._writer.append(name, whole)
                continue
            for shard in range(divided.shards):
                pieces = [whole[index] for index in divided.pieces(shard)]
                part = np.concatenate(pieces, axis=divided.axis)
                self._writer.append(part_name(name, shard), part)
        total = total_of(self._errors) / math.prod(self._weight.shape)
        return WeightError(self._weight.name, largest_of(self._errors), total)

    def _rows_that_wait(self, encoded: Encoded) -> Sequence[NDArray[Any]]:
        arrays = [] if encoded.scales is None else [encoded.scales]
        return [encoded.out, *arrays] if self._first is None else arrays


def _codec(weight: Weight, q: Quantization, encoding: Encoding) -> Codec:
    """Return how a quantization stores the rows of a weight."""
    as_stored = stored_dtype(q.model_dtype, encoding)
    if not is_quantized(weight, q):
        return Codec(q.model_dtype, as_stored)
    if q.kind == "fp8":
        scale = stored_dtype("float32", encoding) if q.scales else ""
        return Codec(q.model_dtype, q.weight_dtype, scale=scale)
    return group_codec(q, as_stored, transposed=is_transposed(weight, q))
