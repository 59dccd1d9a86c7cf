import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo.checkpoints.model_config import read_model_config
from olmo.codecs.floats import round_to
from olmo.codecs.group_quantization import dequantize
from olmo.configuration.config import OLMoConfig
from olmo.conversion.convert import convert, convert_all
from olmo.conversion.tensor_cache import DTYPES, Writer
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.conversion.weight_output import ConversionReport, Output
from olmo.errors import OlmoError
from olmo.quantizations import QUANTIZATIONS
from olmo.weights import parameters
from tests.olmo.gguf_files import write_gguf
from tests.olmo.sample_checkpoints import (
    Tensors,
    config,
    tensors,
    write_sharded,
    write_single,
    write_torch,
)

GOLDEN = Path(__file__).parents[2] / "golden"
CONVERTED = json.loads((GOLDEN / "converted.json").read_text())
CODECS = [name for name, q in QUANTIZATIONS.items() if q.kind in {"none", "group", "fp8"}]
IN_GOLDEN = list(CONVERTED["pub-a"])
# MLC LLM writes these as its memory happens to be, until somebody calibrates.
UNDEFINED = ".q_calibration_scale"
ONE = hashlib.sha256(b"\x80\x3f").hexdigest()  # in bfloat16
CONFIG = config()
VALUES = tensors(CONFIG)
Q4 = QUANTIZATIONS["q4f16_1"]


def records(directory: Path) -> dict[str, list[Any]]:
    """Return each stored tensor as `converted.json` describes it."""
    found = {}
    for shard in json.loads((directory / "tensor-cache.json").read_text())["records"]:
        data = (directory / shard["dataPath"]).read_bytes()
        assert len(data) == shard["nbytes"]
        for r in shard["records"]:
            stored = data[r["byteOffset"] : r["byteOffset"] + r["nbytes"]]
            digest = hashlib.sha256(stored).hexdigest()
            found[r["name"]] = [r["dtype"], r["shape"], r["format"], digest]
    return found


def golden_records(name: str, quantization: str) -> dict[str, list[Any]]:
    """Return the tensors of MLC LLM, undefined numbers defined as 1."""
    found = CONVERTED[name][quantization]["tensors"]
    return {k: [*v[:3], ONE] if k.endswith(UNDEFINED) else v for k, v in found.items()}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("name", ["pub-a", "pub-b"])
@pytest.mark.parametrize("quantization", IN_GOLDEN)
def test_golden(name: str, quantization: str, tmp_path: Path, kernels: Path) -> None:
    golden = CONVERTED[name][quantization]
    obj = json.loads((GOLDEN / name / "config.json").read_text())
    model, q = OLMoConfig.from_huggingface(obj), QUANTIZATIONS[quantization]
    report = convert(GOLDEN / name, model, q, tmp_path / "out", kernels=kernels)
    assert report == convert(GOLDEN / name, model, q, tmp_path / "numpy")
    assert contents(tmp_path / "out") == contents(tmp_path / "numpy")
    manifest = json.loads((tmp_path / "out" / "tensor-cache.json").read_text())
    assert manifest["metadata"] == golden["metadata"]
    assert records(tmp_path / "out") == golden_records(name, quantization)
    assert list(records(tmp_path / "out")) == [p.name for p in parameters(model, q)]
    assert report.bits_per_parameter == golden["metadata"]["BitsPerParam"]
    read_tensor_cache(tmp_path / "out").verify()


def test_weights_to_calibrate_are_those_of_the_calibrated(tmp_path: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    for name in ("e4m3_e4m3_f16", "e4m3_e4m3_f16_max_calibrate"):
        convert(tmp_path / "source", CONFIG, QUANTIZATIONS[name], tmp_path / name)
    calibrated = records(tmp_path / "e4m3_e4m3_f16")
    scales = [name for name in calibrated if name.endswith(UNDEFINED)]
    assert len(scales) == 4 * CONFIG.num_hidden_layers
    for name in scales:
        assert calibrated.pop(name) == ["float32", [1], "f32-to-bf16", ONE]
    assert records(tmp_path / "e4m3_e4m3_f16_max_calibrate") == calibrated


@pytest.mark.parametrize(
    ("source", "quantization"),
    [("pub-a-f32", name) for name in IN_GOLDEN] + [("pub-a-f16", "q0f16")],
)
def test_golden_of_gguf(source: str, quantization: str, tmp_path: Path) -> None:
    path = GOLDEN / "pub-a-gguf" / f"{source}.gguf"
    model = read_model_config(path).parse()
    convert(path, model, QUANTIZATIONS[quantization], tmp_path / "out")
    assert records(tmp_path / "out") == golden_records("pub-a", quantization)


def test_a_block_that_is_no_number(tmp_path: Path) -> None:
    data = bytearray((GOLDEN / "pub-a-gguf" / "pub-a-q8_0.gguf").read_bytes())
    data[-34:-32] = b"\xff\x7f"  # the scale of the last block of the last tensor
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    model = read_model_config(path).parse()
    with pytest.raises(OlmoError, match=r"v_proj\.weight': nan at row 63, column 32"):
        convert(path, model, Q4, tmp_path / "out")


def test_same_weights_same_bytes_however_they_are_stored(tmp_path: Path) -> None:
    write_single(tmp_path / "one", VALUES)
    names = list(np.random.default_rng(0).permutation(list(VALUES)))
    seven: list[Tensors] = [{name: VALUES[name] for name in names[i::7]} for i in range(7)]
    write_sharded(tmp_path / "seven", seven)
    write_torch(tmp_path / "torch", VALUES)
    write_gguf(tmp_path / "gguf" / "m.gguf", CONFIG, VALUES)
    for q in ("q4f16_1", "e4m3_e4m3_f16"):
        out = tmp_path / q
        for source, threads in (("one", 1), ("seven", 3), ("torch", 2), ("gguf", 2)):
            convert(tmp_path / source, CONFIG, QUANTIZATIONS[q], out / source, threads=threads)
        for source in ("seven", "torch", "gguf"):
            assert contents(out / "one") == contents(out / source)


@pytest.mark.parametrize("quantization", ["q4f16_1", "e4m3_e4m3_f16"])
def test_blocks_and_threads_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    q = QUANTIZATIONS[quantization]
    write_single(tmp_path / "source", VALUES)
    whole = convert(tmp_path / "source", CONFIG, q, tmp_path / "whole", threads=1)
    monkeypatch.setattr("olmo.conversion.convert.BLOCK_ELEMENTS", 5 * 32)
    parts = convert(tmp_path / "source", CONFIG, q, tmp_path / "parts", threads=4)
    again = convert(tmp_path / "source", CONFIG, q, tmp_path / "again", threads=2)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    assert contents(tmp_path / "whole") == contents(tmp_path / "again")
    assert whole == parts == again


def test_several_quantizations_in_one_pass(tmp_path: Path, kernels: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    quantizations = [QUANTIZATIONS[name] for name in CODECS]
    outputs = [Output(q, tmp_path / "together" / q.name) for q in quantizations]
    raw = ("q4f32_1", "e4m3_e4m3_f16")
    outputs += [Output(QUANTIZATIONS[q], tmp_path / "together" / f"raw-{q}", "raw") for q in raw]
    reports = convert_all(tmp_path / "source", CONFIG, outputs, kernels=kernels)
    for output, report in zip(outputs, reports, strict=True):
        alone = tmp_path / "alone" / output.directory.name
        q, encoding = output.quantization, output.encoding
        assert report == convert(tmp_path / "source", CONFIG, q, alone, encoding=encoding)
        assert contents(alone) == contents(output.directory)


def test_of_several_outputs_all_or_none_appear(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    large = VALUES[name].copy()
    large[0, 0] = -7e4
    write_single(tmp_path / "source", VALUES | {name: large})
    names = ("q0f32", "q4f16_1")
    outputs = [Output(QUANTIZATIONS[q], tmp_path / q) for q in names]
    with pytest.raises(OlmoError, match="70000 is beyond float16"):
        convert_all(tmp_path / "source", CONFIG, outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("quantization", ["q0f16", "q4f32_1", "q4bf16_0"])
def test_narrow_sources(tmp_path: Path, kernels: Path, dtype: str, quantization: str) -> None:
    narrow = {name: value.astype(DTYPES[dtype]) for name, value in VALUES.items()}
    write_single(tmp_path / "narrow", narrow)
    wide = {name: value.astype(np.float32) for name, value in narrow.items()}
    write_single(tmp_path / "wide", wide)
    q = QUANTIZATIONS[quantization]
    expected = convert(tmp_path / "wide", CONFIG, q, tmp_path / "out-wide")
    for out, given in (("out", kernels), ("out-numpy", None)):
        assert convert(tmp_path / "narrow", CONFIG, q, tmp_path / out, kernels=given) == expected
        assert contents(tmp_path / out) == contents(tmp_path / "out-wide")


@pytest.mark.parametrize("name", ["q4f16_1", "q4f32_1", "q4bf16_1"])
def test_report_tells_the_errors_of_what_is_stored(tmp_path: Path, name: str) -> None:
    q = QUANTIZATIONS[name]
    write_single(tmp_path / "source", VALUES)
    report = convert(tmp_path / "source", CONFIG, q, tmp_path / "out")
    cache = read_tensor_cache(tmp_path / "out")
    original = VALUES["model.layers.0.mlp.down_proj.weight"]
    weight = "model.layers.0.mlp.down_proj"
    words, scale = cache.read(f"{weight}.q_weight"), cache.read(f"{weight}.q_scale")
    held = round_to(dequantize(words, scale, q, original.shape[1]), q.model_dtype)
    distances = np.abs(held - original)
    found = next(w for w in report.weights if w.name == weight)
    assert found.max_error == distances.max()
    assert found.mean_error == pytest.approx(distances.mean(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize("name", ["q0f16", "q0f32", "q0bf16"])
def test_report_tells_the_errors_of_a_cast(tmp_path: Path, name: str) -> None:
    write_single(tmp_path / "source", VALUES)
    report = convert(tmp_path / "source", CONFIG, QUANTIZATIONS[name], tmp_path / "out")
    stored = read_tensor_cache(tmp_path / "out").read("lm_head.weight").astype(np.float32)
    assert report.weights[-1].name == "lm_head"
    assert report.weights[-1].max_error == np.abs(stored - VALUES["lm_head.weight"]).max()


def test_report_counts(tmp_path: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    report = convert(tmp_path / "source", CONFIG, QUANTIZATIONS["q0f32"], tmp_path / "out")
    elements = sum(value.size for value in VALUES.values())
    shards = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.bin"))
    assert isinstance(report, ConversionReport)
    assert (report.parameters, report.tensors) == (elements, 10)
    assert report.bytes == shards == 2 * elements
    assert report.bits_per_parameter == 32.0
    obj = json.loads(json.dumps(report.to_json()))
    assert obj["quantization"] == "q0f32"
    assert obj["weights"][0].keys() == {"name", "max_error", "mean_error"}


def test_raw_encoding_keeps_float32_exactly(tmp_path: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    q0f32 = QUANTIZATIONS["q0f32"]
    report = convert(tmp_path / "source", CONFIG, q0f32, tmp_path / "out", encoding="raw")
    stored = read_tensor_cache(tmp_path / "out").read("lm_head.weight")
    assert np.array_equal(stored, VALUES["lm_head.weight"])
    assert {weight.max_error for weight in report.weights} == {0.0}


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    seen: list[tuple[int, int]] = []
    convert(
        tmp_path / "source",
        CONFIG,
        Q4,
        tmp_path / "out",
        lambda done, all_: seen.append((done, all_)),
    )
    total = sum(value.size for value in VALUES.values())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_an_existing_directory_is_replaced_and_its_other_files_kept(tmp_path: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    out = tmp_path / "out"
    convert(tmp_path / "source", CONFIG, QUANTIZATIONS["q0f32"], out)
    (out / "params_shard_7.bin").write_text("stale")
    (out / "mlc-chat-config.json").write_text("{}")
    convert(tmp_path / "source", CONFIG, Q4, out)
    names = sorted(contents(out))
    assert names == ["mlc-chat-config.json", "params_shard_0.bin", "tensor-cache.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1", "q4bf16_1", "e4m3_e4m3_f16"])
def test_a_weight_that_is_no_number(
    tmp_path: Path, value: float, quantization: str, kernels: Path
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    broken = VALUES[name].copy()
    broken[30, 7] = value
    write_single(tmp_path / "source", VALUES | {name: broken})
    q = QUANTIZATIONS[quantization]
    for given in (kernels, None):
        with pytest.raises(OlmoError) as caught:
            convert(tmp_path / "source", CONFIG, q, tmp_path / "out", kernels=given)
        assert str(caught.value).endswith(f"tensor {name!r}: {value} at row 30, column 7")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("quantization", ["q4f16_1", "e4m3_e4m3_f16"])
def test_a_weight_beyond_float16(tmp_path: Path, quantization: str) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    large = VALUES[name].copy()
    large[0, 0] = -7e4
    write_single(tmp_path / "source", VALUES | {name: large})
    with pytest.raises(OlmoError, match="70000 is beyond float16") as caught:
        convert(tmp_path / "source", CONFIG, QUANTIZATIONS[quantization], tmp_path / "out")
    assert caught.value.hint == "choose q0f32 or q4f32_1"
    convert(tmp_path / "source", CONFIG, QUANTIZATIONS["q4f32_1"], tmp_path / "out")


def test_a_broken_checkpoint_leaves_the_previous_output(tmp_path: Path) -> None:
    write_single(tmp_path / "source", VALUES)
    convert(tmp_path / "source", CONFIG, Q4, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OlmoError, match="missing tensor"):
        convert(tmp_path / "source", config(num_hidden_layers=3), Q4, tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_a_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_single(tmp_path / "source", VALUES)
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(Writer, "_file", lambda _writer, _shard: full)
        with pytest.raises(OlmoError, match="no space left on the device") as caught:
            convert(tmp_path / "source", CONFIG, Q4, tmp_path / "out")
    assert caught.value.hint is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
