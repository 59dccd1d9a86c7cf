from pathlib import Path

import numpy as np
import pytest

from olmo.conversion.convert import convert
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.errors import OlmoError
from olmo.quantizations import QUANTIZATIONS
from olmo.verification.dequantized import dequantized
from olmo.weights import weights
from tests.olmo.sample_checkpoints import config, tensors, write_single

NAMES = [name for name, q in QUANTIZATIONS.items() if q.kind in {"none", "group", "fp8"}]


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_near_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    model, quantization = config(), QUANTIZATIONS[name]
    values = tensors(model)
    source = write_single(tmp_path / "source", values)
    report = convert(source, model, quantization, tmp_path / "out")
    errors = {error.name: error.max_error for error in report.weights}
    cache = read_tensor_cache(tmp_path / "out")
    for weight in weights(model):
        exact = np.concatenate([values[source.name] for source in weight.sources])
        found = dequantized(cache, model, quantization, weight.name).astype(np.float32)
        error = np.abs(found - exact).max()
        # Conversion reports errors of weights in the model dtype; of groups nothing is rounded here.
        rounding = 5e-2 if quantization.kind == "group" else 1e-4
        assert error == pytest.approx(errors[weight.name], rel=rounding), weight.name


def test_a_directory_of_another_quantization(tmp_path: Path) -> None:
    source = write_single(tmp_path / "source", tensors(config()))
    convert(source, config(), QUANTIZATIONS["q0f16"], tmp_path / "out")
    cache = read_tensor_cache(tmp_path / "out")
    with pytest.raises(OlmoError, match=r"no tensor 'lm_head.q_weight'"):
        dequantized(cache, config(), QUANTIZATIONS["q4f16_1"], "lm_head")
