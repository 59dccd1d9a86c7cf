"""Rotary embedding with scaling, in a kernel and in whole libraries, against numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm

from olmo import cpu_attention, reference, rope
from tests.olmo.checkpoints import config
from tests.olmo.libraries import GOLDEN, PROMPT, Built, build, every_way, golden_tokens

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

Scaled = Callable[[str], Built]


@pytest.fixture(scope="session")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Scaled:
    """Return pub-a with a kind of scaling, compiled as q0f32."""
    made: dict[str, Built] = {}

    def library(kind: str) -> Built:
        if kind not in made:
            out = tmp_path_factory.mktemp(kind)
            made[kind] = build(GOLDEN / "pub-a", "q0f32", out, rope_scaling=SCALINGS[kind])
        return made[kind]

    return library


@pytest.mark.parametrize("kind", SCALINGS)
def test_logits_in_every_way(scaled: Scaled, kind: str) -> None:
    library = scaled(kind)
    tokens = golden_tokens("pub-a")
    (expected,) = library.reference(tokens)
    (plain,) = reference.logits(
        library.spec.config.with_overrides(rope_scaling=None), library.weight, [tokens]
    )
    expected, plain = expected[PROMPT - 1 :], plain[PROMPT - 1 :]
    assert np.abs(expected - plain).max() > 1e-2  # or nothing would be tested
    for way, found in every_way(library.engine(max_sequences=2), tokens).items():
        assert np.abs(found - expected).max() < 1e-5, way


@pytest.mark.parametrize("name", KERNELS)
def test_rotated_queries_and_keys(name: str) -> None:
    chosen = config(hidden_size=HEADS * D, num_attention_heads=HEADS, rope_scaling=KERNELS[name])
    rng = np.random.default_rng(1)
    qkv = rng.normal(size=(5, HEADS + 2 * KV_HEADS, D)).astype(np.float32)
    positions = np.array([0, 1, 30, 127, 500], np.int32)
    function = cpu_attention.split_rotary(HEADS, KV_HEADS, D, "float32", 1e4, KERNELS[name])
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
