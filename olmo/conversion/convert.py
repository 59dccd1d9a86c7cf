"""Convert a checkpoint to MLC's weight directory, for one quantization or several in one pass.

Weights stream through. Some threads read blocks of rows, encode them and put them in place; one
more for each output hashes what has been stored, in order. Memory holds some blocks, and of one
weight or two what cannot be hashed before their end, whatever the size of the model. Neither the
bytes nor the report depend on blocks, threads or the machine.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from olmo.checkpoints.checkpoint import open_checkpoint
from olmo.checkpoints.source_tensor import SourceTensor
from olmo.codecs.codec import Codec
from olmo.codecs.kernels import Codecs, codecs
from olmo.configuration.config import OLMoConfig
from olmo.conversion.awq_conversion import convert_awq
from olmo.conversion.weight_block import Buffers, Encoded, Rows, encode_rows, largest_magnitude
from olmo.conversion.weight_output import ConversionReport, Output, OutputInProgress, WeightPlace
from olmo.parallel import check_shards
from olmo.quantization import Encoding, Quantization
from olmo.weights import weights

# Large enough that Python's cost per block vanishes, small enough for a processor's cache.
BLOCK_ELEMENTS = 1 << 19
MAX_THREADS = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a weight, from `row` of it on, and their places; `last` if they end the weight."""

    rows: Rows
    row: int
    places: Sequence[tuple[OutputInProgress, WeightPlace]]
    last: bool


@dataclass(frozen=True, slots=True)
class _Hashing:
    """A block that is in place, while the outputs hash it."""

    block: _Block
    encoded: Mapping[Codec, Encoded]
    hashed: Sequence[Future[None]]


def convert(
    source: Path,
    config: OLMoConfig,
    quantization: Quantization,
    out: Path,
    progress: Progress | None = None,
    *,
    source_format: str = "auto",
    encoding: Encoding = "f32-to-bf16",
    shards: int = 1,
    threads: int | None = None,
    kernels: Path | None = None,
) -> ConversionReport:
    """Convert the checkpoint at `source` into the weight directory `out`: see `convert_all`.

    A checkpoint that AWQ has quantized is not quantized again: see `convert_awq`.
    """
    check_shards(config.with_overrides(tensor_parallel_shards=shards), quantization)
    if quantization.kind == "awq":
        return convert_awq(source, config, quantization, out, progress, source_format=source_format)
    (report,) = convert_all(
        source,
        config,
        [Output(quantization, out, encoding, shards)],
        progress,
        source_format=source_format,
        threads=threads,
        kernels=kernels,
    )
    return report


def convert_all(
    source: Path,
    config: OLMoConfig,
    outputs: Sequence[Output],
    progress: Progress | None = None,
    *,
    source_format: str = "auto",
    threads: int | None = None,
    kernels: Path | None = None,
) -> tuple[ConversionReport, ...]:
    """Convert the checkpoint at `source` into every output, each whole or not at all.

    `kernels` is a directory with libraries of `olmo.codecs.kernel_library`; without one for this machine
    numpy does the same, slower. `progress(done, total)` is called with elements, from this thread.
    The same weights give the same bytes, however they are distributed over files. In an existing
    directory, the weights are replaced and other files stay.

    Raises:
        OlmoError: a broken checkpoint (see `open_checkpoint`), a NaN, an infinity or a value
            beyond the model dtype in a weight, or an output that cannot be written.
    """
    total = sum(math.prod(weight.shape) for weight in weights(config))
    with ExitStack() as stack:
        tensors = stack.enter_context(open_checkpoint(source, config, source_format))
        made = [stack.enter_context(OutputInProgress(output, config)) for output in outputs]
        done = 0
        pipeline = _Pipeline(codecs(kernels), threads or _processors())
        for block in pipeline.run(_blocks(config, tensors, made, pipeline.largest)):
            done += math.prod(block.rows.shape)
            if progress is not None:
                progress(done, total)
        return tuple(output.finish(total) for output in made)


def _blocks(
    config: OLMoConfig,
    tensors: Mapping[str, SourceTensor],
    made: Sequence[OutputInProgress],
    largest: Callable[[Sequence[Rows]], float],
) -> Iterator[_Block]:
    """Yield every weight in blocks of rows; one whose scale has to be known is read twice."""
    for weight in weights(config):
        places = [(output, WeightPlace(output, weight)) for output in made]
        count = max(1, BLOCK_ELEMENTS // weight.shape[1])
        parts = [
            Rows(tensors[source.name], start, min(start + count, source.shape[0]))
            for source in weight.sources
            for start in range(0, source.shape[0], count)
        ]
        if any(place.needs_largest for _, place in places):
            found = largest(parts)
            for _, place in places:
                if place.needs_largest:
                    place.see_largest(found)
        row = 0
        for rows in parts:
            yield _Block(rows, row, places, row + rows.shape[0] == weight.shape[0])
            row += rows.shape[0]


class _Pipeline:
    """Blocks on their way: some are being stored, those before them are being hashed."""

    def __init__(self, codecs: Codecs, threads: int) -> None:
        self._codecs = codecs
        self._threads = threads
        self._buffers = Buffers()
        self._storing: deque[tuple[_Block, Future[Mapping[Codec, Encoded]]]] = deque()
        self._hashing: deque[_Hashing] = deque()

    def run(self, blocks: Iterator[_Block]) -> Iterator[_Block]:
        """Convert blocks; yield each, in order, when it is stored and hashed."""
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for block in blocks:
                    self._storing.append((block, pool.submit(self._store, block)))
                    if len(self._storing) > 2 * self._threads:
                        self._hash_first()
                    if len(self._hashing) > 2 * self._threads:
                        yield self._finish_first()
                while self._storing:
                    self._hash_first()
                while self._hashing:
                    yield self._finish_first()
            finally:
                pool.shutdown(cancel_futures=True)

    def largest(self, rows: Sequence[Rows]) -> float:
        """Return the largest magnitude among rows, read here while blocks are on their way."""
        return largest_magnitude(rows, self._codecs, self._buffers)

    def _store(self, block: _Block) -> Mapping[Codec, Encoded]:
        scales = {place.codec: place.scale for _, place in block.places}
        encoded = encode_rows(block.rows, scales, self._codecs, self._buffers)
        for _, place in block.places:
            place.put(block.row, encoded[place.codec])
        return encoded

    def _hash_first(self) -> None:
        block, future = self._storing.popleft()
        encoded = future.result()
        hashed = [
            output.hash_later(place, encoded[place.codec], last=block.last)
            for output, place in block.places
        ]
        self._hashing.append(_Hashing(block, encoded, hashed))

    def _finish_first(self) -> _Block:
        first = self._hashing.popleft()
        for future in first.hashed:
            future.result()
        for encoded in first.encoded.values():
            self._buffers.give(encoded.out)
            if encoded.scales is not None:
                self._buffers.give(encoded.scales)
        return first.block


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)
