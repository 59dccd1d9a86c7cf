import json
from pathlib import Path
from typing import Any

import pytest

from olmo.compilation.library_plan import LibraryPlan, parse_overrides, plan_library
from olmo.errors import OlmoError

GOLDEN = Path(__file__).parents[2] / "golden" / "chat-config" / "pub-a.q4f16_1.LM.512.json"
LINUX = "linux-x86_64-cpu"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "mlc-chat-config.json").write_bytes(GOLDEN.read_bytes())
    return tmp_path


def plan(model: Path, output: str = "lib.so", **options: Any) -> LibraryPlan:
    return plan_library(model, model / output, **{"device": LINUX, **options})


def failure(model: Path, output: str = "lib.so", **options: Any) -> OlmoError:
    with pytest.raises(OlmoError) as caught:
        plan(model, output, **options)
    return caught.value


def test_reads_the_chat_config(model: Path) -> None:
    for path in (model, model / "mlc-chat-config.json"):
        planned = plan_library(path, model / "lib.so", device=LINUX)
        assert planned.spec.quantization.name == "q4f16_1"
        assert planned.spec.config.context_window_size == 512
        assert (planned.target.name, planned.target.opt) == (LINUX, "O2")
        assert planned.prefix is None


def test_quantization_replaces_that_of_the_config(model: Path) -> None:
    assert plan(model, quantization_name="q0f32").spec.quantization.name == "q0f32"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (None, "the field 'quantization' is missing", None),
        ("q4f16", "unknown quantization 'q4f16'", "did you mean"),
    ],
)
def test_the_quantization_of_the_config(
    model: Path, name: str | None, message: str, hint: str | None
) -> None:
    path = model / "mlc-chat-config.json"
    config = json.loads(path.read_bytes()) | {"quantization": name}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    found = failure(model)
    assert str(found).startswith(f"{path}: {message}")
    assert (hint or "") in (found.hint or "")


def test_overrides_replace_fields(model: Path) -> None:
    spec = plan(model, overrides="context_window_size=100; max_batch_size = 4;").spec
    assert (spec.config.context_window_size, spec.config.prefill_chunk_size) == (100, 100)
    assert spec.config.max_batch_size == 4
    assert plan(model, overrides="sliding_window_size=64").spec.sliding_window_size == 64


def test_several_devices(model: Path) -> None:
    two = "pipeline_parallel_stages=2"
    assert plan(model, overrides=two).spec.config.devices == 2
    assert plan(model, device="cuda", overrides=two).spec.config.devices == 2
    for output, device in (("l.tar", LINUX), ("l.dll", "windows-x86_64-opencl")):
        found = failure(model, output=output, device=device, overrides=two)
        assert "one device, but the model is divided over 2" in str(found)


def test_parses_overrides() -> None:
    assert parse_overrides("") == {}
    assert parse_overrides("prefill_chunk_size=3;") == {"prefill_chunk_size": 3}


def test_host_may_be_the_targets_own(model: Path) -> None:
    assert plan(model, host="x86_64-unknown-linux-gnu") == plan(model)


def test_a_static_library_has_a_prefix(model: Path) -> None:
    planned = plan(model, "lib.tar", device="iphone")
    assert (planned.target.name, planned.prefix) == ("ios-arm64-metal", "olmo_q4f16_1_")
    assert (
        plan(model, "l.tar", device="android", system_lib_prefix="my_model_").prefix == "my_model_"
    )
    assert plan(model, "lib.tar").target.system_lib


def test_auto_device_is_this_machines_processor(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert plan(model, device="auto").target.name == LINUX
    monkeypatch.setattr("platform.machine", lambda: "m68k")
    assert str(failure(model, device="auto")) == "no built-in target is linux-m68k-cpu"


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"device": "linux-x86-cpu"}, "unknown target 'linux-x86-cpu'", f"did you mean {LINUX!r}?"),
        ({"opt": "O4"}, "unknown optimisation level 'O4'", "did you mean"),
        ({"host": "arm64"}, "--host 'arm64': the host of", "leave --host out"),
        ({"system_lib_prefix": "a_"}, ".so is a shared library", "leave --system-lib-prefix out"),
        (
            {"output": "lib.tar", "system_lib_prefix": "olmo_1"},
            "--system-lib-prefix 'olmo_1': at least 8 letters",
            "leave it out for 'olmo_q4f16_1_'",
        ),
        ({"output": "lib.wasm"}, "linux-x86_64-cpu does not end in '.wasm'", "use .so or .tar"),
        ({"device": "vulkan"}, "the TVM wheel has no code generator for Vulkan", None),
        ({"opt": "O2;flashinfer=1"}, "flag 'flashinfer' is not supported", "leave the flag out"),
        ({"quantization_name": "q4f16"}, "unknown quantization 'q4f16'", "did you mean"),
        ({"overrides": "context_window=3"}, "unknown name in --overrides", "context_window_size"),
        ({"overrides": "max_batch_size"}, "'max_batch_size' is not of the form name=value", None),
        ({"overrides": "max_batch_size=x"}, "max_batch_size must be an integer, not 'x'", None),
        (
            {"overrides": "max_batch_size=1;max_batch_size=2"},
            "max_batch_size is given twice",
            None,
        ),
        ({"overrides": "max_batch_size=0"}, "max_batch_size must be a positive integer", None),
    ],
)
def test_mistakes(model: Path, options: dict[str, Any], message: str, hint: str | None) -> None:
    error = failure(model, **options)
    assert message in str(error)
    assert (error.hint is None) == (hint is None)
    assert hint is None or hint in (error.hint or "")


def test_output_that_is_a_directory(model: Path) -> None:
    (model / "lib.so").mkdir()
    assert "lib.so: is a directory" in str(failure(model))


def test_no_chat_config(tmp_path: Path) -> None:
    error = failure(tmp_path)
    assert str(error).endswith("mlc-chat-config.json: no such file")
    assert error.hint == "write it with: python -m olmo gen_config"


def test_broken_chat_config(model: Path) -> None:
    (model / "mlc-chat-config.json").write_text("{")
    assert "mlc-chat-config.json: not JSON" in str(failure(model))
    obj = json.loads(GOLDEN.read_text())
    (model / "mlc-chat-config.json").write_text(json.dumps(obj | {"model_type": "llama"}))
    assert "unknown model type 'llama'" in str(failure(model))
