"""The numpy reference against Hugging Face's logits."""

import numpy as np
import pytest

from olmo.verification import reference
from tests.olmo.conftest import Library
from tests.olmo.libraries import PROMPT, golden_logits, golden_tokens
from tests.olmo.sample_checkpoints import config


@pytest.mark.parametrize(("checkpoint", "tolerance"), [("pub-a", 1e-5), ("pub-b", 3e-4)])
def test_golden_logits(built: Library, checkpoint: str, tolerance: float) -> None:
    (found,) = built(checkpoint, "q0f32").reference(golden_tokens(checkpoint))
    assert np.abs(found[PROMPT - 1 :] - golden_logits(checkpoint)).max() < tolerance


def test_each_weight_is_asked_for_once_and_sequences_are_apart(built: Library) -> None:
    library = built("pub-b", "q0f32")
    asked: list[str] = []

    def weight(name: str) -> np.ndarray:
        asked.append(name)
        return library.weight(name)

    one, two = reference.logits(library.spec.config, weight, [[1, 2, 3], [4, 5]])
    assert len(asked) == len(set(asked)) == 1 + 4 * library.spec.config.num_hidden_layers
    assert np.array_equal(one, library.reference([1, 2, 3])[0])
    assert np.array_equal(two, library.reference([4, 5])[0])


def test_later_tokens_change_nothing(built: Library) -> None:
    library = built("pub-b", "q0f32")
    (long,), (short,) = library.reference([1, 2, 3, 4]), library.reference([1, 2, 3])
    assert np.abs(long[:3] - short).max() < 1e-9


def test_rotation_keeps_lengths_and_depends_on_distance() -> None:
    chosen = config()
    x = np.random.default_rng(0).normal(size=(2, 1, chosen.head_dim))
    near = reference.rotate(x, np.array([3, 5]), chosen)
    far = reference.rotate(x, np.array([1003, 1005]), chosen)
    assert np.allclose(np.linalg.norm(near, axis=-1), np.linalg.norm(x, axis=-1))
    assert np.isclose((near[0] * near[1]).sum(), (far[0] * far[1]).sum())
    assert np.array_equal(reference.rotate(x, np.array([0, 0]), chosen), x)


def frequencies(head_dim: int, **scaling: object) -> np.ndarray:
    heads = {"hidden_size": 2 * head_dim, "num_attention_heads": 2}
    return reference.inverse_frequencies(config(**heads, rope_scaling=scaling))


def test_linear_scaling() -> None:
    expected = np.array([1, 0.1, 0.01, 0.001]) / 4
    assert np.allclose(frequencies(8, rope_type="linear", factor=4.0), expected, rtol=1e-14)


def test_llama3_scaling() -> None:
    found = frequencies(
        8,
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=128,
    )
    # 20.4 and 2.04 turns within the window, then fewer than one
    turns = 128 * 0.1 / (2 * np.pi)
    blend = (turns - 1) / 3
    second = (1 - blend) * 0.1 / 8 + blend * 0.1
    assert np.allclose(found, [1, second, 0.01 / 8, 0.001 / 8], rtol=1e-14)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}


def test_yarn_scaling() -> None:
    # 4096 / 2 pi / 32 is 10**1.309 and 4096 / 2 pi is 10**2.814: with 16 pairs a power of ten is 4
    # of them, so the range is 5.24 to 11.26, rounded outwards 5 to 12
    plain = 10000.0 ** -(np.arange(16) / 16)
    for options, first, last in (
        ({}, 5, 12),
        ({"truncate": False}, 4 * np.log10(64 / np.pi), 4 * np.log10(2048 / np.pi)),
        ({"beta_fast": 8, "beta_slow": 4}, 7, 9),  # 7.64 to 8.85
    ):
        share = np.clip((np.arange(16) - first) / (last - first), 0, 1)
        found = frequencies(32, **YARN, **options)
        assert np.allclose(found, plain * (1 - share) + plain / 4 * share, rtol=1e-12), options


def test_yarn_attention_factor() -> None:
    grown = 1 + 0.1 * np.log(4)
    for options, expected in (
        ({}, grown),
        ({"attention_factor": 1.5}, 1.5),
        ({"mscale": 2.0, "mscale_all_dim": 1.0}, (1 + 0.2 * np.log(4)) / grown),
        ({"mscale": 2.0}, grown),  # alone it means nothing, as in transformers
    ):
        found = reference.attention_factor(config(rope_scaling={**YARN, **options}))
        assert np.isclose(found, expected, rtol=1e-14), options
    x = np.random.default_rng(0).normal(size=(2, 1, 8))
    rotated = reference.rotate(x, np.array([3, 5]), config(rope_scaling=YARN))
    assert np.allclose(np.linalg.norm(rotated, axis=-1), grown * np.linalg.norm(x, axis=-1))
