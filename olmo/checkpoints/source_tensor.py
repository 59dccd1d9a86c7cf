"""A matrix in a checkpoint file, read by rows: what every checkpoint format offers."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from ml_dtypes import bfloat16
from numpy.lib.stride_tricks import as_strided

from olmo.codecs.floats import F32
from olmo.errors import OlmoError

# The element types that weights have, and numpy's little-endian form of each.
DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(bfloat16),
}


# Reads rows [start, stop) of a matrix as float32 into its third argument.
RowReader = Callable[[int, int, F32], None]


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """Where a tensor lies: an open file, the offset of its first byte, its dtype name and shape.

    Elements are little-endian. `strides`, in elements, tell the distance of neighbours along each
    axis; None means row-major order without gaps. Where the format stores rows in another order or
    elements in blocks, `reader` reads them, and `dtype` is the format's own name for the latter.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    descriptor: int
    offset: int
    strides: tuple[int, ...] | None = None
    reader: RowReader | None = None

    @property
    def plain(self) -> bool:
        """Whether the file holds the elements from `offset` on, row by row, in a dtype of DTYPES."""
        steps = tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        return self.reader is None and self.dtype in DTYPES and self.strides in {None, steps}

    @property
    def is_weight(self) -> bool:
        """Whether `read_rows` gives its values: floating point, or blocks with a reader."""
        return self.reader is not None or self.dtype in DTYPES

    def read_rows(self, start: int, stop: int, out: F32) -> F32:
        """Read rows [start, stop) of a matrix as float32 into `out` [stop - start, K].

        Reads at an offset, so threads may share the descriptor, and memory stays that of `out`
        (unless the strides spread the rows: then all between the first element and the last is
        read).

        Raises:
            OlmoError: the file ends early or cannot be read.
        """
        if self.reader is not None:
            self.reader(start, stop, out)
            return out
        dtype = DTYPES[self.dtype]
        rows, columns = stop - start, self.shape[1]
        along_rows, along_columns = self.strides or (columns, 1)
        offset = self.offset + start * along_rows * dtype.itemsize
        packed = (along_rows, along_columns) == (columns, 1)
        if packed and self.dtype == "float32":
            self._read(out.data.cast("B"), offset)
            return out
        raw = np.empty((rows - 1) * along_rows + (columns - 1) * along_columns + 1, dtype)
        self._read(raw.view(np.uint8).data, offset)
        steps = (along_rows * dtype.itemsize, along_columns * dtype.itemsize)
        values = as_strided(raw, (rows, columns), steps, writeable=False)
        if self.dtype == "bfloat16":
            wide = out.view(np.uint32)
            np.copyto(wide, values.view("<u2"))
            wide <<= np.uint32(16)
        else:
            np.copyto(out, values)
        return out

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def _read(self, buffer: memoryview, offset: int) -> None:
        read_exactly(self.descriptor, buffer, offset, self.file, self.name)


def read_exactly(descriptor: int, buffer: memoryview, offset: int, file: str, tensor: str) -> None:
    """Fill `buffer` with the bytes of an open file from `offset` on.

    Raises:
        OlmoError: the file ends early or cannot be read.
    """
    done = 0
    while done < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise OlmoError(f"{file}: {error.strerror}") from None
        if count == 0:
            raise OlmoError(f"{file}: the file ends within tensor {tensor!r}")
        done += count
