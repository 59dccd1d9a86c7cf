"""Random weights for property tests: odd sizes, ties, zeros, denormals, the ends of dtypes."""

import numpy as np
from hypothesis import strategies as st

from olmo.codecs.floats import F32

SCALES = [1e-44, 1e-38, 1e-8, 6e-8, 1e-6, 1e-4, 0.02, 1.0, 3000.0, 65000.0]


@st.composite
def matrices(draw: st.DrawFn, scales: list[float] = SCALES) -> F32:
    """Draw [N, K] within float16."""
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 130))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from(scales))
    w = rng.standard_normal((n, k)) * scale
    if draw(st.booleans()):
        w = np.round(w / scale * 4) * (scale / 4)  # ties
    if draw(st.booleans()):
        w[rng.random((n, k)) < 0.5] = 0
    if draw(st.booleans()):
        w[0] = 0
    limit = 65519.0 if scale < 1e5 else 3.3e38
    return np.clip(w, -limit, limit).astype(np.float32)
