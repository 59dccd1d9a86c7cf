"""Rows of a weight: read as float32, encoded as each of several quantizations stores them."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.checkpoints.source_tensor import DTYPES, SourceTensor, read_exactly
from olmo.codecs.codec import NARROW, Codec
from olmo.codecs.floats import F32, overflow_limit
from olmo.codecs.kernels import Codecs
from olmo.codecs.numpy_codec import STORED
from olmo.codecs.row_errors import RowErrors
from olmo.errors import OlmoError


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows [start, stop) of one tensor of a checkpoint."""

    tensor: SourceTensor
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.stop - self.start, self.tensor.shape[1])


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as a codec stores them: out [N, K] or [N, words], scales [N, groups] or None."""

    out: NDArray[Any]
    scales: NDArray[Any] | None
    errors: RowErrors


class Buffers:
    """Memory that is used again.

    Fresh memory costs a page fault every 4 KiB, which is more than the arithmetic on it. Threads
    may share one.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array with anything in it."""
        nbytes = math.prod(shape) * dtype.itemsize
        size = 1 << max(nbytes - 1, 1).bit_length()
        with self._lock:
            free = self._free.setdefault(size, [])
            memory = free.pop() if free else np.empty(size, np.uint8)
        return memory[:nbytes].view(dtype).reshape(shape)

    def give(self, array: NDArray[Any]) -> None:
        """Give back an array that `take` returned; nobody may use it any more."""
        memory = array
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        with self._lock:
            self._free[memory.nbytes].append(memory)

    @contextmanager
    def lent(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield an array with anything in it; take it back at the end."""
        array = self.take(shape, dtype)
        try:
            yield array
        finally:
            self.give(array)


def encode_rows(
    rows: Rows, scales: Mapping[Codec, F32 | None], codecs: Codecs, buffers: Buffers
) -> dict[Codec, Encoded]:
    """Read rows and encode them with each codec.

    `scales` has the scale, [1], of codecs with one for the whole matrix. Arrays of the result are
    from `buffers`, to be given back.

    Raises:
        OlmoError: the rows cannot be read, or hold a NaN, an infinity or a value beyond the dtype
            of a codec.
    """
    with buffers.lent(rows.shape, np.dtype(np.float32)) as w:
        _read(rows, w, codecs, buffers)
        found = {}
        for codec, scale in scales.items():
            found[codec] = _encode(codec, w, scale, codecs, buffers)
            if not found[codec].errors.magnitude < overflow_limit(codec.dtype):  # true for NaN
                raise _refusal(rows, w, codec.dtype)
        return found


def largest_magnitude(rows: Sequence[Rows], codecs: Codecs, buffers: Buffers) -> float:
    """Read rows; return the largest of their magnitudes, NaN if one of them is.

    Raises:
        OlmoError: the rows cannot be read.
    """
    largest = np.float32(0)
    for part in rows:
        with buffers.lent(part.shape, np.dtype(np.float32)) as w:
            _read(part, w, codecs, buffers)
            largest = np.maximum(largest, np.maximum(w.max(), -w.min()))
    return float(largest)


def _read(rows: Rows, w: F32, codecs: Codecs, buffers: Buffers) -> None:
    tensor = rows.tensor
    if not tensor.plain or tensor.dtype not in NARROW:
        tensor.read_rows(rows.start, rows.stop, w)
        return
    with buffers.lent(rows.shape, np.dtype(np.uint16)) as bits:
        start = rows.start * tensor.shape[1] * DTYPES[tensor.dtype].itemsize
        into = bits.reshape(-1).view(np.uint8).data
        read_exactly(tensor.descriptor, into, tensor.offset + start, tensor.file, tensor.name)
        codecs.widen(tensor.dtype, bits, w)


def _encode(codec: Codec, w: F32, scale: F32 | None, codecs: Codecs, buffers: Buffers) -> Encoded:
    n, k = w.shape
    if not codec.bits:
        out = buffers.take((n, k), STORED[codec.stored])
        return Encoded(out, None, codecs.encode(codec, w, out, scale))
    groups = codec.groups(k)
    out = buffers.take((n, groups * codec.words_per_group), np.dtype(np.uint32))
    scales = buffers.take((n, groups), STORED[codec.stored])
    return Encoded(out, scales, codecs.encode(codec, w, out, scales))


def _refusal(rows: Rows, w: F32, dtype: str) -> OlmoError:
    """Return the error for what has no meaning as a weight, or none in the model dtype."""
    where = f"{rows.tensor.file}: tensor {rows.tensor.name!r}"
    if not np.isfinite(w).all():
        row, column = np.argwhere(~np.isfinite(w))[0]
        value = float(w[row, column])
        return OlmoError(f"{where}: {value} at row {rows.start + row}, column {column}")
    largest = float(np.abs(w).max())
    return OlmoError(f"{where}: {largest:g} is beyond {dtype}", "choose q0f32 or q4f32_1")
