"""A matrix in a checkpoint file, read by rows: what every checkpoint format offers."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ml_dtypes import bfloat16
from numpy.lib.stride_tricks import as_strided

from olmo.errors import OlmoError
from olmo.floats import F32

# The element types that weights have, and numpy's little-endian form of each.
DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(bfloat16),
}


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """Where a tensor lies: an open file, the offset of its first byte, its dtype name and shape.

    Elements are little-endian. `strides`, in elements, tell the distance of neighbours along each
    axis; None means row-major order without gaps.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    descriptor: int
    offset: int
    strides: tuple[int, ...] | None = None

    def read_rows(self, start: int, stop: int, out: F32) -> F32:
        """Read rows [start, stop) of a matrix as float32 into `out` [stop - start, K].

        Reads at an offset, so threads may share the descriptor, and memory stays that of `out`
        (unless the strides spread the rows: then all between the first element and the last is
        read).

        Raises:
            OlmoError: the file ends early or cannot be read.
        """
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
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self.descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise OlmoError(f"{self.file}: {error.strerror}") from None
            if count == 0:
                raise OlmoError(f"{self.file}: the file ends within tensor {self.name!r}")
            done += count
