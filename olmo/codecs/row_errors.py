"""What encoding a matrix tells of its rows: how far stored values are from the originals."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RowErrors:
    """Per row [N]: sum (float64) and largest (float32) of the errors, and the largest magnitude.

    `magnitudes` are the bits (int32) of float32 magnitudes, in which a NaN is above infinity.
    """

    sums: NDArray[np.float64]
    largest: NDArray[np.float32]
    magnitudes: NDArray[np.int32]

    @classmethod
    def empty(cls, rows: int) -> "RowErrors":
        """Return room for so many rows."""
        return cls(np.empty(rows), np.empty(rows, np.float32), np.empty(rows, np.int32))

    @property
    def magnitude(self) -> float:
        """The largest magnitude of all; NaN if there is one."""
        return float(self.magnitudes.max(initial=0).view(np.float32))


def total_of(parts: Iterable[RowErrors]) -> float:
    """Return the sum of all errors, correctly rounded, so whatever the order of the rows."""
    return math.fsum(float(value) for part in parts for value in part.sums)


def largest_of(parts: Iterable[RowErrors]) -> float:
    """Return the largest of all errors."""
    return max((float(part.largest.max(initial=0.0)) for part in parts), default=0.0)
