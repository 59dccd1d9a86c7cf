"""What a codec makes of a matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.codec import Codec
from olmo.codecs.floats import F32
from olmo.codecs.kernels import Codecs
from olmo.codecs.numpy_codec import STORED
from olmo.codecs.row_errors import RowErrors

MATRIX_SCALE = 3.1e-4  # of codecs with one scale for a whole matrix


def encode(
    codecs: Codecs, codec: Codec, w: F32
) -> tuple[NDArray[Any], NDArray[Any] | None, RowErrors]:
    n, k = w.shape
    if not codec.bits:
        out = np.empty((n, k), STORED[codec.stored])
        scale = np.array([MATRIX_SCALE], np.float32) if codec.scale else None
        return out, None, codecs.encode(codec, w, out, scale)
    groups = codec.groups(k)
    words = np.empty((n, groups * codec.words_per_group), np.uint32)
    scales = np.empty((n, groups), STORED[codec.stored])
    return words, scales, codecs.encode(codec, w, words, scales)
