import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo import embedded
from olmo.cli import main
from tests.olmo.gguf_files import write_gguf
from tests.olmo.sample_checkpoints import CONFIG, config, tensors, write_config, write_single

GOLDEN = Path(__file__).parents[1] / "golden"
VALUES = tensors(config())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    source = write_single(tmp_path / "model", VALUES)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source / name).write_bytes((GOLDEN / "pub-a" / name).read_bytes())
    write_config(source, vocab_size=40)
    return source


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def errors(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """Run a command that fails; return what it wrote to stderr after its progress."""
    assert run(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return shown.err[shown.err.index("error: ") :].splitlines()


def convert(source: Path, *options: object, q: str = "q4f16_1") -> tuple[object, ...]:
    return ("convert_weight", source, "--quantization", q, "-o", source / "out", *options)


def generate(source: Path, *options: object, template: str = "LM") -> tuple[object, ...]:
    base = ("gen_config", source, "--quantization", "q4f16_1", "--conv-template", template)
    return (*base, "-o", source / "out", *options)


def test_convert_weight(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*convert(model, "--source-format", "auto", "--device", "cpu")) == 0
    shown = capsys.readouterr()
    elements = sum(value.size for value in VALUES.values())
    assert f"parameters: {elements:,}" in shown.out
    assert "bits per parameter: " in shown.out
    assert "largest error: " in shown.out
    assert shown.err.splitlines() == [
        f"converting {model} (huggingface-safetensor, 1 file) to q4f16_1",
        f"converting {model} (huggingface-safetensor, 1 file) to q4f16_1: done",
    ]
    assert (model / "out" / "tensor-cache.json").is_file()


def test_convert_weight_keeps_float32(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*convert(model, "--encoding", "raw", q="q0f32")) == 0
    assert "largest error: 0 in " in capsys.readouterr().out
    lines = errors(capsys, *convert(model, "--encoding", "raw"))
    assert lines[0] == "error: encoding 'raw' changes nothing: q4f16_1 stores no float32"
    lines = errors(capsys, *convert(model, "--encoding", "rwa", q="q0f32"))
    assert lines == ["error: unknown encoding 'rwa'", "hint: did you mean 'raw'?"]


def test_convert_weight_divides(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def names() -> list[str]:
        records = json.loads((model / "out/tensor-cache.json").read_bytes())["records"]
        return [record["name"] for shard in records for record in shard["records"]]

    assert run(*convert(model, "--preshard", "2", q="q0f32")) == 0
    by_option = names()
    assert "model.layers.0.mlp.down_proj.weight_shard-1" in by_option
    monkeypatch.setenv("MLC_INTERNAL_PRESHARD_NUM", "2")
    assert run(*convert(model, q="q0f32")) == 0
    assert names() == by_option
    assert run(*convert(model, "--preshard", "1", q="q0f32")) == 0
    assert "model.layers.0.mlp.down_proj.weight" in names()
    capsys.readouterr()
    monkeypatch.setenv("MLC_INTERNAL_PRESHARD_NUM", "two")
    assert errors(capsys, *convert(model)) == [
        "error: MLC_INTERNAL_PRESHARD_NUM: expected a number of devices, found 'two'"
    ]
    assert errors(capsys, *convert(model, "--preshard", "0"))[0].startswith("error: weights cannot")
    assert errors(capsys, *convert(model, "--preshard", "2", q="q4f16_0"))[0].startswith(
        "error: q4f16_0 with tensor_parallel_shards 2: the transposed layout KN"
    )
    uneven = errors(capsys, *convert(model, "--preshard", "4"))
    assert uneven == [
        "error: tensor_parallel_shards 4 does not divide num_key_value_heads 2",
        "hint: choose a number of shards that does",
    ]


def test_convert_weight_takes_config_and_source_apart(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (model / "model.safetensors").rename(tmp_path / "elsewhere" / "weights.safetensors")
    source = tmp_path / "elsewhere" / "weights.safetensors"
    assert run(*convert(model), "--source", source) == 0
    assert run(*convert(model / "config.json")[:-1], tmp_path / "two", "--source", source) == 0
    assert (tmp_path / "two" / "tensor-cache.json").is_file()


def test_gen_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = GOLDEN / "pub-a"
    arguments = ("gen_config", source, "--quantization", "q4f16_1", "--conv-template", "olmo")
    assert run(*arguments, "--context-window-size", 2048, "-o", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'out' / 'mlc-chat-config.json'}\n"
    assert "warning: context_window_size 2048 is beyond the 512 positions" in shown.err
    example = GOLDEN / "chat-config" / "pub-a.q4f16_1.olmo.2048.json"
    assert (tmp_path / "out" / "mlc-chat-config.json").read_bytes() == example.read_bytes()
    spec = json.loads((tmp_path / "out" / "compile-spec.json").read_text())
    assert spec["active_vocab_size"] == 300


def test_gen_config_with_every_option(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"name": "mine", "roles": {"user": "Q", "assistant": "A"}, "seps": ["|"]}')
    arguments = ["gen_config", GOLDEN / "pub-a" / "config.json", "--quantization", "q0f32"]
    arguments += ["--conv-template", own, "--model-type", "olmo", "-o", tmp_path / "out"]
    options = {
        "--context-window-size": 128,
        "--prefill-chunk-size": 64,
        "--sliding-window-size": 32,
        "--attention-sink-size": 4,
        "--tensor-parallel-shards": 2,
        "--pipeline-parallel-stages": 2,
        "--max-batch-size": 9,
    }
    assert run(*arguments, *(item for pair in options.items() for item in pair)) == 0
    chat = json.loads((tmp_path / "out" / "mlc-chat-config.json").read_text())
    for name, value in options.items():
        key = name.removeprefix("--").replace("-", "_")
        assert (chat if key in chat else chat["model_config"])[key] == value
    assert chat["conv_template"]["name"] == "mine"


def test_unknown_quantization(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(capsys, *convert(model, q="q4f16-1")) == [
        "error: unknown quantization 'q4f16-1'",
        "hint: did you mean 'q4f16_1'?",
    ]


def test_unknown_model_type(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (convert(model), generate(model)):
        lines = errors(capsys, *arguments, "--model-type", "olmo2")
        assert lines[0] == "error: unknown model type 'olmo2'"


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "vulkan"])
def test_another_device(model: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    lines = errors(capsys, *convert(model, "--device", device))
    assert lines[0].startswith(f"error: --device '{device}': ")


def test_a_gguf_file_needs_no_config_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "m.gguf", config(), VALUES)
    for given in (tmp_path, path):
        output = ("-o", tmp_path / "out")
        assert run("convert_weight", given, "--quantization", "q0f32", *output) == 0
        assert "(gguf, 1 file)" in capsys.readouterr().err
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 5.0}))
    for arguments in (convert(tmp_path), generate(tmp_path)):
        (line, hint) = errors(capsys, *arguments)
        assert line.endswith(f"position_embedding_base is 5.0, but 10000.0 in {path}")
        assert "take config.json away" in hint


def test_a_gguf_file_needs_no_tokenizer(tmp_path: Path) -> None:
    path = GOLDEN / "pub-a-gguf" / "pub-a-q8_0.gguf"
    out = tmp_path / "out"
    base = ("gen_config", path, "--quantization", "q0f32", "--conv-template", "LM", "-o", out)
    assert run(*base) == 0
    made = json.loads((out / "mlc-chat-config.json").read_text())
    assert made["active_vocab_size"] == 300
    assert (out / "tokenizer.json").is_file()


def test_another_family(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(model, model_type="llama")
    for arguments in (convert(model), generate(model)):
        line, hint = errors(capsys, *arguments)
        assert "model_type is 'llama', but Olmill builds 'olmo' models" in line
        assert hint.startswith("hint: ")


def test_a_missing_field(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(model, intermediate_size=...)
    line, hint = errors(capsys, *convert(model))
    assert line == f"error: {model / 'config.json'}: the field 'intermediate_size' is missing"
    assert hint.startswith("hint: ")


def test_no_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = errors(capsys, *convert(tmp_path))
    assert line == f"error: {tmp_path / 'config.json'}: no such file"


def test_a_config_that_is_not_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "config.json").write_text("{")
    (line,) = errors(capsys, *convert(model))
    assert "config.json: not JSON: " in line


def test_a_broken_checkpoint(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    lines = errors(capsys, *convert(model))
    assert "goes beyond the end of the file" in lines[0]
    assert lines[1] == "hint: the file is truncated: download or copy it again"
    assert not (model / "out").exists()


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    "changed",
    [
        {DOWN: ...},
        {DOWN: VALUES[DOWN].T.copy()},
        {DOWN: VALUES[DOWN].astype(np.int32)},
        {DOWN: np.where(VALUES[DOWN] > 0, VALUES[DOWN], np.float32(np.nan))},
        {DOWN: np.where(VALUES[DOWN] > 0, VALUES[DOWN], np.float32(-np.inf))},
        {"extra": np.zeros(1, np.float32)},
    ],
    ids=["missing", "shape", "dtype", "nan", "infinity", "extra"],
)
def test_what_is_refused_leaves_the_output_as_it_was(
    model: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any]
) -> None:
    assert run(*convert(model)) == 0
    before = {path.name: path.read_bytes() for path in (model / "out").iterdir()}
    values = {**VALUES, **changed}
    write_single(model, {name: value for name, value in values.items() if value is not ...})
    capsys.readouterr()
    assert next(iter(changed)) in errors(capsys, *convert(model))[0]
    assert {path.name: path.read_bytes() for path in (model / "out").iterdir()} == before
    assert not list(model.glob(".*")), "something is left beside it"


def test_no_checkpoint(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "model.safetensors").unlink()
    (line,) = errors(capsys, *convert(model))
    assert "no model.safetensors[.index.json] or pytorch_model.bin[.index.json]" in line


def test_a_weight_that_is_no_number(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "lm_head.weight"
    write_single(model, VALUES | {name: np.full_like(VALUES[name], np.nan)}, vocab_size=40)
    (line,) = errors(capsys, *convert(model))
    assert "tensor 'lm_head.weight': nan at row 0, column 0" in line
    assert not (model / "out").exists()


def test_an_output_that_cannot_be_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "out").write_text("mine")
    (line,) = errors(capsys, *convert(model))
    assert line.endswith("out: exists and is not a directory")


def test_a_tokenizer_larger_than_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = errors(capsys, *generate(model))
    assert "the tokenizer has 300 tokens, but vocab_size of config.json is 40" in line


def test_a_config_that_cannot_be_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(model, vocab_size=0)
    (line,) = errors(capsys, *generate(model))
    assert line.startswith(f"error: {model / 'config.json'}: vocab_size must be a positive")


def test_unknown_template(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = errors(capsys, *generate(model, template="olmo1"))
    expected = ["error: unknown conversation template 'olmo1'", "hint: did you mean 'olmo'?"]
    assert lines == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "expected a table of template keys"), ("{", "not JSON"), (None, "no such file")],
)
def test_a_broken_template_file(
    model: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    path = model / "own.json"
    if text is not None:
        path.write_text(text)
    (line,) = errors(capsys, *generate(model, template=str(path)))
    assert line.startswith(f"error: {path}: {message}")


def test_compile_is_checked_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = errors(capsys, "compile", tmp_path, "-o", tmp_path / "lib.so")
    assert lines[0].endswith("mlc-chat-config.json: no such file")


def test_chat_needs_a_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = errors(capsys, "chat", tmp_path, "--prompt", "x")
    assert "no library for it in" in lines[0]
    (line,) = errors(capsys, "chat", tmp_path / "gone", "--prompt", "x")
    assert line == f"error: {tmp_path / 'gone'}: no such directory"
    (line,) = errors(capsys, "chat", tmp_path, "--prompt", "x", "--model-lib", tmp_path / "a.so")
    assert line == f"error: {tmp_path / 'a.so'}: no such file or directory"


@pytest.mark.parametrize(
    "arguments",
    [[], ["convert"], ["convert_weight"], ["gen_config", "x", "-o", "y"], ["compile", "x"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m olmo" in capsys.readouterr().err


def test_an_empty_path(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert_weight", str(model), "--quantization", "q4f16_1", "-o", ""])
    assert "-o/--output: the path is empty" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough(model: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "olmo", *map(str, convert(model))]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr.count("\n")) == (0, 2)


def test_interruption(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("olmo.conversion.tensor_cache.Writer.append", interrupt)
    assert run(*convert(model)) == 130
    names = sorted(path.name for path in model.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def test_progress_on_a_terminal(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(*convert(model)) == 0
    assert capsys.readouterr().err.endswith(" to q4f16_1: 100 %\n")
    (model / "model.safetensors").write_bytes(b"broken")
    assert run(*convert(model)) == 1
    assert "\nerror: " in capsys.readouterr().err


def test_from_checkpoint_to_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = embedded.path("olmo-tiny")
    out, library = tmp_path / "tiny-MLC", tmp_path / "libs" / "tiny-linux-x86_64-cpu.so"
    common = (source, "--quantization", "q4f16_1", "-o", out)
    template = source / "conv_template.json"
    assert run("convert_weight", *common) == 0
    assert run("gen_config", *common, "--conv-template", template) == 0
    overrides = "context_window_size=128;max_batch_size=1"
    device = ("--device", "linux-x86_64-cpu", "--overrides", overrides)
    assert run("compile", out, *device, "-o", library) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(library)
    prompt = ("--prompt", "What day comes after Monday?", "--temperature", 0)
    assert run("chat", out, *prompt) == 0
    assert capsys.readouterr().out == "Tuesday\n"
    assert run("chat", out, "--model-lib", library, *prompt, "--max-tokens", 1) == 0
    assert "Tuesday".startswith(capsys.readouterr().out.strip())
    (line,) = errors(capsys, "chat", out, *prompt[:2], "--temperature", -1)
    assert line.startswith("error: temperature must lie between")
    assert sorted(path.name for path in library.parent.iterdir()) == [library.name]


def python(*arguments: object, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "olmo", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **options},
        cwd=Path(__file__).parents[2],
    )


def test_module_runs_and_reports_by_exit_code(model: Path) -> None:
    done = python(*convert(model))
    assert (done.returncode, done.stderr.count("\n")) == (0, 2)
    failed = python(*convert(model / "gone"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert python("convert_weight").returncode == 2
    assert "COMMAND" in python("--help").stdout


def test_same_bytes_in_every_environment(model: Path, tmp_path: Path) -> None:
    for number, zone in enumerate(["UTC", "Asia/Tokyo"]):
        arguments = (*convert(model)[:-1], tmp_path / f"out{number}")
        assert python(*arguments, TZ=zone, PYTHONHASHSEED=str(number)).returncode == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / f"out{n}").iterdir()} for n in (0, 1)
    )
    assert first == second
