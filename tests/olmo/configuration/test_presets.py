import math

import pytest

from olmo.configuration.presets import PRESETS, preset
from olmo.errors import OlmoError
from olmo.weights import weights

# 1.18 B (the embedding once, as it is tied) and 6.89 B
PARAMETERS = {
    "OLMo-1B-hf": 1_176_764_416,
    "OLMo-7B-hf": 6_888_095_744,
    "OLMo-7B-0424-hf": 6_888_095_744,
    "OLMo-7B-0724-hf": 6_888_095_744,
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_have_the_published_size(name: str) -> None:
    assert sum(math.prod(weight.shape) for weight in weights(preset(name))) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "window", "clip"),
    [
        ("OLMo-1B-hf", 2048, None),
        ("OLMo-7B-hf", 2048, None),
        ("OLMo-7B-0424-hf", 4096, 8.0),
        ("OLMo-7B-0724-hf", 4096, 8.0),
    ],
)
def test_windows_and_clipping(name: str, window: int, clip: float | None) -> None:
    found = preset(name)
    assert (found.context_window_size, found.clip_qkv) == (window, clip)
    assert found.head_dim == 128
    assert found.position_embedding_base == 10000.0
    assert found.rope_scaling is None


def test_unknown_preset() -> None:
    with pytest.raises(OlmoError, match="unknown preset 'OLMo-1b-hf'") as caught:
        preset("OLMo-1b-hf")
    assert caught.value.hint == "did you mean 'OLMo-1B-hf'?"
