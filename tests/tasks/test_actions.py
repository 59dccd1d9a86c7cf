"""Actions by themselves: as a worker elsewhere runs them, and what each reads and writes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from olmo.quantizations import QUANTIZATIONS
from tasks.actions import convert, gen_config, hub, inspect, package
from tests.clone import PUB_A, ROOT

Q0F32 = QUANTIZATIONS["q0f32"].to_json()


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    inputs.mkdir()
    outputs.mkdir()
    return inputs, outputs


def test_a_worker_needs_the_input_root_alone(tmp_path: Path) -> None:
    """`python -m tasks.actions` in a directory that holds parameters, inputs and code."""
    (tmp_path / "params.json").write_text("{}")
    (tmp_path / "tools.json").write_text('{"packages": {}, "programs": {}}')
    (tmp_path / "inputs").mkdir()
    shutil.copyfile(PUB_A / "config.json", tmp_path / "inputs/config.json")
    subprocess.run(
        [sys.executable, "-m", "tasks.actions", "tasks.actions.inspect"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    value = json.loads((tmp_path / "outputs/architecture.json").read_bytes())
    assert (value["model_type"], value["hidden_size"]) == ("olmo", 64)


def test_inspect_projects_what_conversion_needs(directories: tuple[Path, Path]) -> None:
    inputs, outputs = directories
    made = []
    for theta in (10000.0, 500000.0):
        config = json.loads((PUB_A / "config.json").read_bytes()) | {"rope_theta": theta}
        (inputs / "config.json").write_text(json.dumps(config))
        inspect.run({}, inputs, outputs)
        made.append((outputs / "architecture.json").read_bytes())
    assert made[0] == made[1]


def test_several_quantizations_read_the_checkpoint_once(
    directories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, outputs = directories
    shutil.copytree(PUB_A, inputs / "checkpoint")
    inspect.run({}, PUB_A, inputs)
    size = (PUB_A / "model.safetensors").stat().st_size
    read, preadv = [0], os.preadv
    reports: list[tuple[int, int]] = []

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        read[0] += count
        return count

    def made(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (outputs / name).iterdir()}

    monkeypatch.setattr(os, "preadv", counted)
    names = ["q0f32", "q4f16_1", "q3f16_0"]
    jobs = [({"quantization": QUANTIZATIONS[name].to_json()}, outputs / name) for name in names]
    convert.run_batch(jobs, inputs, lambda done, total: reports.append((done, total)))
    assert 0.9 * size < read[0] <= size
    total = sum(path.stat().st_size for path in (inputs / "checkpoint").iterdir())
    assert reports[-1] == (total, total)
    assert reports == sorted(reports)
    for name in names:
        together = made(name)
        convert.run({"quantization": QUANTIZATIONS[name].to_json()}, inputs, outputs / name)
        assert made(name) == together


def test_an_encoding_reaches_the_file(directories: tuple[Path, Path]) -> None:
    inputs, outputs = directories
    shutil.copytree(PUB_A, inputs / "checkpoint")
    inspect.run({}, PUB_A, inputs)
    convert.run({"quantization": Q0F32, "encoding": "raw"}, inputs, outputs)
    manifest = json.loads((outputs / "tensor-cache.json").read_text())
    records = [record for shard in manifest["records"] for record in shard["records"]]
    assert {record["format"] for record in records} == {"raw"}
    assert sum(record["nbytes"] for record in records) == manifest["metadata"]["ParamBytes"]


def test_gen_config_writes_what_its_readers_select(directories: tuple[Path, Path]) -> None:
    inputs, outputs = directories
    shutil.copytree(PUB_A, inputs / "checkpoint")
    params = {"quantization": Q0F32, "context_window_size": 1024, "conv_template": "LM"}
    warnings = gen_config.run(params, inputs, outputs)
    assert {path.name for path in outputs.iterdir()} == {
        "mlc-chat-config.json", "compile-spec.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert any("1024" in warning for warning in warnings)


def test_the_template_is_not_in_the_compile_spec(directories: tuple[Path, Path]) -> None:
    inputs, outputs = directories
    shutil.copytree(PUB_A, inputs / "checkpoint")
    specs = set()
    for template in ("LM", "olmo"):
        params = {"quantization": Q0F32, "context_window_size": 256, "conv_template": template}
        gen_config.run(params, inputs, outputs)
        specs.add((outputs / "compile-spec.json").read_bytes())
    assert len(specs) == 1


def test_package_links_and_lists_everything(directories: tuple[Path, Path]) -> None:
    inputs, outputs = directories
    for place in ("model/params_shard_0.bin", "library/library.so"):
        (inputs / place).parent.mkdir()
        (inputs / place).write_text(place)
    (inputs / "verify").mkdir()
    (inputs / "verify/report.json").write_text('{"state": "checked"}')
    params = {
        "model": "m", "quantization": "q", "context_window_size": 1, "target": "t",
        "directory": "m-q-ctx1-MLC", "library": "m-q-ctx1-t.so",
    }  # fmt: skip
    package.run(params, inputs, outputs)
    manifest = json.loads((outputs / "libs/m-q-ctx1-t.json").read_bytes())
    assert set(manifest["files"]) == {"m-q-ctx1-MLC/params_shard_0.bin", "libs/m-q-ctx1-t.so"}
    assert manifest["verified"] == {"state": "checked"}
    shard = outputs / "m-q-ctx1-MLC/params_shard_0.bin"
    assert shard.samefile(inputs / "model/params_shard_0.bin")


@pytest.mark.parametrize(
    ("name", "content", "good"),
    [
        ("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", b"", True),  # git's empty blob
        ("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", b"x", False),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", b"", True),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", b"x", False),
    ],
)
def test_content_is_named_as_git_and_the_hub_do(
    tmp_path: Path, name: str, content: bytes, good: bool
) -> None:
    blob = tmp_path / name
    blob.write_bytes(content)
    assert hub.Content(name, len(content)).is_of(blob) == good
