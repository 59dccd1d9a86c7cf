"""A matrix in a checkpoint file, read by rows: what every checkpoint format offers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ml_dtypes import bfloat16

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

    Elements are little-endian, in row-major order, without gaps.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    descriptor: int
    offset: int

    def read_rows(self, start: int, stop: int, out: F32) -> F32:
        """Read rows [start, stop) of a matrix as float32 into `out` [stop - start, K].

        Reads at an offset, so threads may share the descriptor, and memory stays that of `out`.

        Raises:
            OlmoError: the file ends early or cannot be read.
        """
        dtype = DTYPES[self.dtype]
        columns = self.shape[1]
        offset = self.offset + start * columns * dtype.itemsize
        if self.dtype == "float32":
            self._read(out.data.cast("B"), offset)
            return out
        raw = np.empty((stop - start) * columns, dtype)
        self._read(raw.view(np.uint8).data, offset)
        if self.dtype == "bfloat16":
            wide = out.view(np.uint32).reshape(-1)
            np.copyto(wide, raw.view("<u2"))
            wide <<= np.uint32(16)
        else:
            np.copyto(out.reshape(-1), raw)
        return out

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
