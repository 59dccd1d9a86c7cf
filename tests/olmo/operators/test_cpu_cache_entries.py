import numpy as np
import pytest

from olmo.operators import cpu_cache_entries
from olmo.operators.cpu_cache_entries import PAGE_SIZE
from olmo.verification.reference import rotate
from tests.olmo.operators.cpu_kernels import HEADS, KV_HEADS, RNG, D, build, ints, rows_of, tensor
from tests.olmo.sample_checkpoints import config


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_split_rotary(dtype: str) -> None:
    chosen = config(hidden_size=96, num_attention_heads=HEADS)
    assert chosen.head_dim == D
    qkv = rows_of(3, HEADS + 2 * KV_HEADS, dtype)
    positions = np.array([0, 7, 2000], np.int32)
    run = build(cpu_cache_entries.split_rotary(HEADS, KV_HEADS, D, dtype, 10000.0, {}))
    sizes = (HEADS, KV_HEADS, KV_HEADS)
    for apply in (1, 0):
        found = [tensor(np.zeros((3, n, D), dtype)) for n in sizes]
        run(tensor(qkv), tensor(positions), *found, apply)
        q, k, v = np.split(qkv.astype(np.float64), [HEADS, HEADS + KV_HEADS], axis=1)
        if apply:
            q, k = (rotate(x, positions.astype(np.int64), chosen) for x in (q, k))
        for got, wanted in zip(found, (q, k, v), strict=True):
            tolerance = 1e-3 if dtype == "float32" else 6e-3  # 2000 radians in float32
            assert np.abs(got.numpy().astype(np.float64) - wanted).max() < tolerance


def test_append() -> None:
    pages = RNG.normal(size=(3, 2, KV_HEADS, PAGE_SIZE, D)).astype(np.float32)
    k, v = rows_of(4, KV_HEADS, "float32"), rows_of(4, KV_HEADS, "float32")
    positions = [2 * PAGE_SIZE + 3, -1, 0, PAGE_SIZE - 1]  # -1: nowhere
    changed = tensor(pages)
    build(cpu_cache_entries.append(KV_HEADS, D, "float32"))(
        changed, tensor(k), tensor(v), ints(positions)
    )
    expected = pages.copy()
    for i, position in enumerate(positions):
        if position >= 0:
            expected[position // PAGE_SIZE, :, :, position % PAGE_SIZE] = k[i], v[i]
    assert np.array_equal(changed.numpy(), expected)
