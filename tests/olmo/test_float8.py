import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import float8_e4m3fn, float8_e5m2

from olmo.checkpoint import open_checkpoint
from olmo.config import OLMoConfig
from olmo.float8 import (
    E4M3,
    E5M2,
    Float8,
    e4m3_scale,
    encode_float8,
    quantize_e4m3,
    quantize_e5m2,
)
from olmo.floats import F32, encode_bfloat16, round_to_float16
from olmo.weights import weights

GOLDEN = Path(__file__).parents[1] / "golden"
CONVERTED = json.loads((GOLDEN / "converted.json").read_text())
FORMATS = [(E4M3, float8_e4m3fn), (E5M2, float8_e5m2)]


def linears(name: str) -> dict[str, F32]:
    config = OLMoConfig.from_huggingface(json.loads((GOLDEN / name / "config.json").read_text()))
    found = {}
    with open_checkpoint(GOLDEN / name, config) as tensors:
        for weight in weights(config):
            rows = [np.empty(source.shape, np.float32) for source in weight.sources]
            for source, out in zip(weight.sources, rows, strict=True):
                tensors[source.name].read_rows(0, source.shape[0], out)
            if weight.role == "linear":
                found[weight.name] = np.concatenate(rows)
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["pub-a", "pub-b"])
def test_golden_e5m2(name: str) -> None:
    golden = CONVERTED[name]["e5m2_e5m2_f16"]["tensors"]
    for weight, w in linears(name).items():
        assert sha256(quantize_e5m2(w).tobytes()) == golden[f"{weight}.q_weight"][3], weight


@pytest.mark.parametrize("name", ["pub-a", "pub-b"])
def test_golden_e4m3(name: str) -> None:
    golden = CONVERTED[name]["e4m3_e4m3_f16"]["tensors"]
    for weight, w in linears(name).items():
        scale = e4m3_scale(float(np.abs(round_to_float16(w.copy())).max()))
        stored = encode_bfloat16(np.array([scale], np.float32))
        assert sha256(stored.tobytes()) == golden[f"{weight}.q_scale"][3], weight
        assert sha256(quantize_e4m3(w, scale).tobytes()) == golden[f"{weight}.q_weight"][3], weight


@pytest.mark.parametrize(("form", "dtype"), FORMATS)
def test_normal_numbers_are_rounded_as_ieee_does(form: Float8, dtype: type) -> None:
    x = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    x = x[(x >= 2.0 ** (1 - form.bias)) & (x <= form.largest)]
    for signed in (x, -x):
        assert encode_float8(signed, form).tobytes() == signed.astype(dtype).tobytes()


@pytest.mark.parametrize("form", [E4M3, E5M2])
def test_what_is_too_small_is_positive_zero(form: Float8) -> None:
    x = np.array([0.0, -0.0, 2.0**-30, -(2.0**-30), 1e-44], np.float32)
    assert not encode_float8(x, form).any()


def test_the_lowest_binade_lacks_its_implicit_one() -> None:
    step = 2.0**-9
    x = np.array([4 * step, 5 * step, 7.5 * step, -4 * step, -6 * step], np.float32)
    assert encode_float8(x, E4M3).tolist() == [0x00, 0x02, 0x07, 0x80, 0x84]


def test_a_matrix_of_zeros_has_a_scale() -> None:
    assert e4m3_scale(0.0) > 0
    assert not quantize_e4m3(np.zeros((2, 3), np.float32), e4m3_scale(0.0)).any()
