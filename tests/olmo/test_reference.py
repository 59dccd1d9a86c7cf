"""The numpy reference against Hugging Face's logits."""

import json

import numpy as np
import pytest

from olmo import reference
from olmo.config import OLMoConfig
from olmo.errors import OlmoError
from tests.olmo.checkpoints import config
from tests.olmo.conftest import Library
from tests.olmo.libraries import GOLDEN, PROMPT, golden_logits, golden_tokens


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


def test_scaling_that_is_not_computed_is_refused() -> None:
    raw = json.loads((GOLDEN / "pub-a" / "config.json").read_bytes())
    scaled = OLMoConfig.from_huggingface(raw).with_overrides(
        rope_scaling={"rope_type": "linear", "factor": 2.0}
    )
    with pytest.raises(OlmoError, match="linear"):
        reference.inverse_frequencies(scaled)
