"""Scaled rotary embedding, in a kernel and in whole libraries, against numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from olmo.modeling import rope
from olmo.operators import cpu_cache_entries
from olmo.verification import reference
from tests.olmo.libraries import GOLDEN, PROMPT, Logits, build, every_way, golden_tokens
from tests.olmo.sample_checkpoints import config

SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
}
KERNELS = {
    **SCALINGS,
    "yarn not truncated": {**SCALINGS["yarn"], "truncate": False},
    "yarn with factors": {**SCALINGS["yarn"], "mscale": 2.0, "mscale_all_dim": 0.5},
    "yarn of one pair": {**SCALINGS["yarn"], "original_max_position_embeddings": 6},
}
HEADS, KV_HEADS, D = 4, 2, 32

# Each library also has another activation, and the one nearest to it that it must differ from.
ACTIVATIONS = {
    "linear": ("gelu", "gelu_new"),
    "llama3": ("relu", "gelu"),
    "yarn": ("gelu_new", "gelu"),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_logits_in_every_way(tmp_path: Path, kind: str) -> None:
    act, other = ACTIVATIONS[kind]
    fields = {"rope_scaling": SCALINGS[kind], "hidden_act": act}
    library = build(GOLDEN / "pub-a", "q0f32", tmp_path, quick=True, **fields)
    tokens = golden_tokens("pub-a")

    def logits(**changes: Any) -> Logits:
        changed = library.spec.config.with_overrides(**changes)
        return reference.logits(changed, library.weight, [tokens])[0][PROMPT - 1 :]

    expected = logits()
    for way, found in every_way(library.engine(max_sequences=2), tokens).items():
        assert np.abs(found - expected).max() < 1e-5, way
    # what the wrong angles or activation would give is farther away
    assert np.abs(logits(rope_scaling=None) - expected).max() > 1e-2
    assert np.abs(logits(hidden_act=other) - expected).max() > 1e-4


@pytest.mark.parametrize("name", KERNELS)
def test_rotated_queries_and_keys(name: str) -> None:
    chosen = config(hidden_size=HEADS * D, num_attention_heads=HEADS, rope_scaling=KERNELS[name])
    rng = np.random.default_rng(1)
    qkv = rng.normal(size=(5, HEADS + 2 * KV_HEADS, D)).astype(np.float32)
    positions = np.array([0, 1, 30, 127, 500], np.int32)
    function = cpu_cache_entries.split_rotary(HEADS, KV_HEADS, D, "float32", 1e4, KERNELS[name])
    run = tvm.compile(
        function, tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu"})
    )["split_rotary_embedding"]
    found = [
        tvm.runtime.tensor(np.zeros((5, n, D), "float32")) for n in (HEADS, KV_HEADS, KV_HEADS)
    ]
    run(tvm.runtime.tensor(qkv), tvm.runtime.tensor(positions), *found, 1)
    q, k, v = np.split(qkv.astype(np.float64), [HEADS, HEADS + KV_HEADS], axis=1)
    places = positions.astype(np.int64)
    wanted = (reference.rotate(q, places, chosen), reference.rotate(k, places, chosen), v)
    for got, expected in zip(found, wanted, strict=True):
        assert np.abs(got.numpy() - expected).max() < 5e-4  # 500 radians in float32


def test_the_range_of_yarn_is_never_empty() -> None:
    assert rope.yarn_range(KERNELS["yarn of one pair"], D, 1e4) == (0, 0.001)
