"""`python kernel_digest.py LIBRARY FILE`: the sha256 of what kernels make of many matrices.

Bits are drawn rather than values, so that every exponent occurs. Runs where there is no more than
Python, numpy and ml_dtypes: on other machines, emulated ones too.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from olmo.codecs.codec import CODECS, NARROW
from olmo.codecs.floats import overflow_limit
from olmo.codecs.kernels import Codecs, Kernels
from tests.olmo.encoded import encode

SHAPES = ((1, 1), (3, 31), (2, 64), (4, 129), (2, 333))


def digest(codecs: Codecs) -> str:
    rng = np.random.Generator(np.random.PCG64(7))  # its bits are the same everywhere
    found = hashlib.sha256()
    for codec in CODECS:
        for shape in SHAPES:
            w = rng.integers(0, 2**32, shape, np.uint32).view(np.float32)
            near = rng.integers(0x3C000000, 0x40000000, shape, np.uint32).view(np.float32)
            w = np.where(np.abs(w) < overflow_limit(codec.dtype), w, 0).astype(np.float32)
            for matrix in (w, near):
                out, scales, errors = encode(codecs, codec, matrix)
                for array in (out, scales, errors.sums, errors.largest, errors.magnitudes):
                    found.update(b"" if array is None else array.tobytes())
    for dtype in NARROW:
        bits = np.arange(1 << 16, dtype=np.uint16)
        wide = np.empty(bits.shape, np.float32)
        codecs.widen(dtype, bits, wide)
        numbers = ~np.isnan(wide)
        found.update(wide[numbers].tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(digest(Kernels(Path(sys.argv[1]))))
