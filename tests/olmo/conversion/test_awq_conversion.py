import json
from pathlib import Path

import numpy as np
import pytest

from olmo.codecs import awq
from olmo.conversion.awq_conversion import convert_awq
from olmo.conversion.convert import convert
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.errors import OlmoError
from olmo.quantizations import QUANTIZATIONS
from olmo.weights import awq_sources, parameters, weights
from tests.olmo.sample_checkpoints import (
    Tensors,
    config,
    tensors,
    write_sharded,
    write_single,
    write_torch,
)

AWQ = QUANTIZATIONS["q4f16_awq"]
SHAPES = {"hidden_size": 256, "intermediate_size": 384}
CONFIG = config(**SHAPES)
PREFIX = "model.layers.1.self_attn"


def quantized(seed: int = 0) -> Tensors:
    """Return an AWQ checkpoint of CONFIG, as transformers saves it."""
    rng = np.random.default_rng(seed)
    values: Tensors = {}
    for weight in weights(CONFIG):
        for source in weight.sources:
            if weight.role != "linear":
                values[source.name] = rng.normal(0, 0.1, source.shape).astype(np.float16)
                continue
            words, zeros, scales = awq_sources(source, AWQ)
            for part in (words, zeros):
                values[part.name] = rng.integers(-(2**31), 2**31, part.shape, np.int32)
            values[scales.name] = rng.uniform(0.001, 0.01, scales.shape).astype(np.float16)
    return values


VALUES = quantized()


def failure(source: Path, name: str = "q4f16_awq") -> OlmoError:
    with pytest.raises(OlmoError) as caught:
        convert_awq(source, CONFIG, QUANTIZATIONS[name], source / "out")
    assert not (source / "out").exists()
    return caught.value


@pytest.mark.parametrize("name", ["q4f16_awq", "q4f16_autoawq"])
def test_words_are_stored_as_they_are(tmp_path: Path, name: str) -> None:
    write_single(tmp_path, VALUES, **SHAPES)
    seen: list[tuple[int, int]] = []
    report = convert_awq(
        tmp_path,
        CONFIG,
        QUANTIZATIONS[name],
        tmp_path / "out",
        lambda done, total: seen.append((done, total)),
    )
    cache = read_tensor_cache(tmp_path / "out")
    cache.verify()
    assert [p.name for p in parameters(CONFIG, AWQ)][:4] == [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.qkv_proj.qweight",
        "model.layers.0.self_attn.qkv_proj.qzeros",
        "model.layers.0.self_attn.qkv_proj.scales",
    ]
    for part in ("qweight", "qzeros", "scales"):
        beside = [VALUES[f"{PREFIX}.{side}_proj.{part}"] for side in "qkv"]
        found = cache.read(f"{PREFIX}.qkv_proj.{part}")
        assert found.dtype == (np.float16 if part == "scales" else np.uint32)
        assert found.tobytes() == np.concatenate(beside, axis=1).tobytes()
    assert np.array_equal(cache.read("lm_head.weight"), VALUES["lm_head.weight"])
    total = sum(s.shape[0] * s.shape[1] for w in weights(CONFIG) for s in w.sources)
    assert seen[-1] == (total, total)
    assert report.parameters == total
    assert {(w.max_error, w.mean_error) for w in report.weights} == {(0.0, 0.0)}


def test_convert_knows_awq(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES, **SHAPES)
    report = convert(tmp_path, CONFIG, AWQ, tmp_path / "out")
    assert report == convert_awq(tmp_path, CONFIG, AWQ, tmp_path / "again")
    assert read_tensor_cache(tmp_path / "out").read(f"{PREFIX}.o_proj.qzeros").dtype == np.uint32


def test_a_fused_linear_is_its_parts(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES, **SHAPES)
    convert_awq(tmp_path, CONFIG, AWQ, tmp_path / "out")
    cache = read_tensor_cache(tmp_path / "out")

    def weight(values: Tensors, name: str) -> np.ndarray:
        words, zeros = (values[f"{name}.{part}"].view(np.uint32) for part in ("qweight", "qzeros"))
        return awq.dequantize(words, zeros, values[f"{name}.scales"])

    name = f"{PREFIX}.qkv_proj"
    fused = {p.name: cache.read(p.name) for p in parameters(CONFIG, AWQ) if name in p.name}
    parts = [weight(VALUES, f"{PREFIX}.{side}_proj") for side in "qkv"]
    assert np.array_equal(weight(fused, name), np.concatenate(parts))


def test_bits_count_parameters_not_words(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES, **SHAPES)
    report = convert_awq(tmp_path, CONFIG, AWQ, tmp_path / "out")
    metadata = json.loads((tmp_path / "out" / "tensor-cache.json").read_text())["metadata"]
    assert metadata["BitsPerParam"] == report.bits_per_parameter
    assert report.bytes == metadata["ParamBytes"]
    linear = 4 + (4 + 16) / 128  # a nibble; for each 128 a zero and a scale
    other = 2 * 40 * 256
    expected = (linear * (report.parameters - other) + 16 * other) / report.parameters
    assert report.bits_per_parameter == pytest.approx(expected)


def test_blocks_and_files_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_single(tmp_path / "one", VALUES, **SHAPES)
    names = list(VALUES)
    write_sharded(tmp_path / "two", [{n: VALUES[n] for n in names[i::2]} for i in (1, 0)], **SHAPES)
    made = []
    for source, block in (("one", 4 << 20), ("two", 1000)):
        monkeypatch.setattr("olmo.conversion.awq_conversion.BLOCK_BYTES", block)
        convert_awq(tmp_path / source, CONFIG, AWQ, tmp_path / source / "out")
        out = tmp_path / source / "out"
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert made[0] == made[1]


def test_a_checkpoint_that_is_not_awq(tmp_path: Path) -> None:
    write_single(tmp_path, tensors(CONFIG), **SHAPES)
    error = failure(tmp_path)
    assert "missing tensors 'model.layers.0.self_attn.q_proj.qweight'" in str(error)
    assert error.hint is not None
    assert "quantized with AWQ" in error.hint


def test_another_quantization_of_an_awq_checkpoint(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES, **SHAPES)
    with pytest.raises(OlmoError, match="missing tensors") as caught:
        convert(tmp_path, CONFIG, QUANTIZATIONS["q4f16_1"], tmp_path / "out")
    assert caught.value.hint == "the checkpoint is quantized already: AWQ ones convert to q4f16_awq"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("o_proj.qweight", np.zeros((256, 32), np.int64), "has dtype I64, but packed weights are"),
        ("o_proj.qweight", np.zeros((256, 33), np.int32), "has shape [256, 33], but config.json"),
        ("o_proj.scales", np.zeros((2, 256), np.int32), "has dtype I32, but weights are"),
        ("o_proj.scales", np.full((2, 256), np.nan, np.float32), "nan at row 0, column 0, is no f"),
        ("o_proj.scales", np.full((2, 256), 7e4, np.float32), "70000.0 at row 0, column 0, is no"),
    ],
)
def test_a_broken_tensor(tmp_path: Path, name: str, value: np.ndarray, said: str) -> None:
    write_single(tmp_path, VALUES | {f"{PREFIX}.{name}": value}, **SHAPES)
    error = failure(tmp_path)
    assert f"tensor '{PREFIX}.{name}'" in str(error)
    assert said in str(error)


def test_an_embedding_that_loses(tmp_path: Path) -> None:
    wide = np.full((40, 256), 1.0001, np.float32)
    write_single(tmp_path, VALUES | {"lm_head.weight": wide}, **SHAPES)
    report = convert_awq(tmp_path, CONFIG, AWQ, tmp_path / "out")
    assert report.weights[-1].name == "lm_head"
    lost = float(np.float32(1.0001) - np.float32(1))
    assert report.weights[-1].max_error == pytest.approx(lost)
    assert report.weights[-1].mean_error == pytest.approx(lost)


def test_dimensions_that_do_not_divide(tmp_path: Path) -> None:
    model = config()
    write_single(tmp_path, tensors(model))
    with pytest.raises(OlmoError, match="inputs in groups of 128 and outputs in words of 8, but"):
        convert_awq(tmp_path, model, AWQ, tmp_path / "out")


def test_words_of_a_torch_file(tmp_path: Path) -> None:
    write_single(tmp_path / "one", VALUES, **SHAPES)
    write_torch(tmp_path / "torch", VALUES, **SHAPES)
    for source in ("one", "torch"):
        convert_awq(tmp_path / source, CONFIG, AWQ, tmp_path / source / "out")
    one, torch = ((tmp_path / source / "out" / "params_shard_0.bin") for source in ("one", "torch"))
    assert one.read_bytes() == torch.read_bytes()
    write_torch(tmp_path / "torch", {n: v.T.copy().T for n, v in VALUES.items()}, **SHAPES)
    with pytest.raises(OlmoError, match="qweight' is transposed"):
        convert_awq(tmp_path / "torch", CONFIG, AWQ, tmp_path / "out")
