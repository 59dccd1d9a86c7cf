from pathlib import Path

import numpy as np
import pytest

from olmo.operators.gpu_attention import THREADS, merge
from tests.olmo.gpu_threads import threaded

ROWS, HEADS = 3, 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("d", [32, 300])
def test_parts_are_merged_without_lockstep(tmp_path: Path, d: int, dtype: str) -> None:
    run = threaded(merge(HEADS, d, dtype), tmp_path)
    random = np.random.default_rng(0)
    for last in (False, True):
        v, v_other = (random.normal(size=(ROWS, HEADS, d)).astype(dtype) for _ in range(2))
        s, s_other = (random.normal(0, 3, (ROWS, HEADS)).astype("float32") for _ in range(2))
        s[0, 0] = -5e4  # a part that saw nothing
        largest = np.maximum(s, s_other).astype(np.float64)
        own, other = np.exp2(s - largest), np.exp2(s_other - largest)
        total = own + other
        expected = (v * own[..., None] + v_other * other[..., None]) / total[..., None]
        run(
            (ROWS, HEADS),
            min(d, THREADS),
            {"v": v, "s": s, "v_other": v_other, "s_other": s_other, "rows": ROWS},
            last=last,
        )
        assert np.abs(v - expected).max() < (1e-6 if dtype == "float32" else 2e-3)
        assert np.abs(s - (np.log2(total) + largest)).max() < 1e-5
