"""matrix.toml: what it can say, and every mistake it can make."""

from pathlib import Path

import pytest

from tasks.configuration.matrix import load
from tasks.configuration.release import Row
from tasks.errors import BuildError

GOOD = """
[models.olmo-tiny]
source = "embedded"

[models.big]
source = "hf"
repo = "allenai/OLMo-1B-hf"
revision = "0123456789012345678901234567890123456789"
conv_template = "olmo"

[targets.fast]
base = "linux-x86_64-cpu"
mcpu = "x86-64-v4"

[[release]]
models = ["olmo-tiny", "big"]
quantizations = ["q0f32", "q4f16_1"]
windows = [256, 512]
targets = ["linux-x86_64-cpu", "fast"]
exclude = [{ model = "big", window = 256 }, { target = "fast", quantization = "q0f32" }]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "matrix.toml"
    path.write_text(text)
    return path


def test_rows_are_the_product_without_what_is_excluded(tmp_path: Path) -> None:
    matrix = load(write(tmp_path, GOOD))
    assert len(matrix.rows) == 16 - 4 - 4 + 1  # both rules name big:q0f32:256:fast
    assert Row("olmo-tiny", "q0f32", 256, "linux-x86_64-cpu") in matrix.rows
    assert not any(row.model == "big" and row.window == 256 for row in matrix.rows)
    assert not any(row.target == "fast" and row.quantization == "q0f32" for row in matrix.rows)


def test_rows_of_several_devices(tmp_path: Path) -> None:
    devices = "tensor_parallel_shards = 5\npipeline_parallel_stages = 2\npresharded = true\n"
    matrix = load(write(tmp_path, TINY + TINY_ROW + TINY_ROW + devices))
    assert list(map(str, matrix.rows)) == [
        "olmo-tiny:q0f32:256:linux-x86_64-cpu",
        "olmo-tiny:q0f32:256-tp5-pp2-presharded:linux-x86_64-cpu",
    ]


def test_models_and_targets_are_resolved(tmp_path: Path) -> None:
    matrix = load(write(tmp_path, GOOD))
    assert matrix.models["big"].revision == "0123456789" * 4
    assert matrix.models["olmo-tiny"].path is not None
    assert matrix.targets["fast"].tvm["mcpu"] == "x86-64-v4"


def test_paths_start_at_the_matrix(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    text = '[models.m]\nsource = "local"\npath = "checkpoint"\nconv_template = "LM"\n' + ROW
    assert load(write(tmp_path, text)).models["m"].path == tmp_path / "checkpoint"


def test_a_path_may_be_a_gguf_file(tmp_path: Path) -> None:
    names = [f"m-{number:05d}-of-00002.gguf" for number in (1, 2)]
    text = f'[models.m]\nsource = "local"\npath = "{names[0]}"\nconv_template = "LM"\n' + ROW
    with pytest.raises(BuildError, match=rf"{names[0]} is not a directory, nor a \.gguf file"):
        load(write(tmp_path, text))
    (tmp_path / names[0]).write_bytes(b"GGUF")
    with pytest.raises(BuildError, match=rf"models\.m\.path: .*{names[1]} of the same model"):
        load(write(tmp_path, text))
    (tmp_path / names[1]).write_bytes(b"GGUF")
    model = load(write(tmp_path, text)).models["m"]
    assert (model.path, model.weights) == (tmp_path, tuple(names))


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    text = (
        TINY
        + 'conv_template = { name = "mine", seps = ["\\n"], roles = { user = "Q:", assistant = "A:" } }\n'
        + TINY_ROW
    )
    template = load(write(tmp_path, text)).models["olmo-tiny"].conv_template
    assert isinstance(template, dict)
    assert template["name"] == "mine"


TINY = '[models.olmo-tiny]\nsource = "embedded"\n'
AXES = 'quantizations = ["q0f32"]\nwindows = [256]\ntargets = ["linux-x86_64-cpu"]\n'
ROW = '[[release]]\nmodels = ["m"]\n' + AXES
TINY_ROW = '[[release]]\nmodels = ["olmo-tiny"]\n' + AXES
HF = '[models.m]\nsource = "hf"\nrepo = "a/b"\nconv_template = "LM"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models", "not valid TOML"),
        ("", "release: there is nothing to build"),
        (TINY + TINY_ROW + "[module]\n", "module: unknown key 'module' .*did you mean 'models'"),
        (TINY + 'sourse = "x"\n' + TINY_ROW, r"models.olmo-tiny.sourse: unknown key .*'source'"),
        (TINY + TINY_ROW.replace("q0f32", "q4f16_l"), r"release\[0\].quantizations\[0\]: unknown quantization 'q4f16_l' .*did you mean"),
        (TINY + TINY_ROW.replace('"q0f32"', '"q4f16_ft"'), "q4f16_ft cannot be built: "),
        (TINY + TINY_ROW.replace("256", "0"), r"windows\[0\]: a window is a number of tokens from 8 on"),
        (TINY + TINY_ROW.replace("256", "true"), r"windows\[0\]: a window is a number of tokens from 8 on"),
        (TINY + TINY_ROW.replace("256", ""), r"release\[0\].windows: is empty"),
        (TINY + TINY_ROW.replace("256", "256, 256"), "256 is listed twice"),
        (TINY + TINY_ROW.replace('"olmo-tiny"', '"olmo-tony"'), "unknown model 'olmo-tony' .*'olmo-tiny'"),
        (TINY + TINY_ROW.replace("x86_64-cpu", "x86-cpu"), "unknown target"),
        (TINY + TINY_ROW + TINY_ROW, r"olmo-tiny:q0f32:256:linux-x86_64-cpu is listed again"),
        (TINY + TINY_ROW + "exclude = [{ window = 256 }]\n", "excludes every row"),
        (TINY + TINY_ROW + "exclude = [{ window = 7 }]\n", "7 is not in windows"),
        (TINY + TINY_ROW + "exclude = [{ windows = 256 }]\n", "unknown key 'windows' .*'window'"),
        (TINY + TINY_ROW + "exclude = [{}]\n", "would exclude every row"),
        (TINY + TINY_ROW + "tensor_parallel_shards = 0\n", r"release\[0\].tensor_parallel_shards: expected a number of devices"),
        (TINY + TINY_ROW + "pipeline_parallel_stages = true\n", r"pipeline_parallel_stages: expected a number"),
        (TINY + TINY_ROW + "presharded = 2\n", r"presharded: expected true or false"),
        (TINY + TINY_ROW + "presharded = true\n", r"release\[0\].presharded: there is one shard"),
        (TINY + TINY_ROW.replace("q0f32", "q4f16_0") + "tensor_parallel_shards = 5\n", r"tensor_parallel_shards: q4f16_0: the transposed layout KN"),
        (TINY + TINY_ROW.replace("linux-x86_64-cpu", "android-arm64-opencl") + "pipeline_parallel_stages = 2\n", r"release: olmo-tiny:q0f32:256-pp2:android-arm64-opencl: .* one device"),
        (TINY + "[[release]]\nmodels = ['olmo-tiny']\n", r"release\[0\]: quantizations is missing"),
        (HF + 'revision = "main"\n' + ROW, r"models.m.revision: 'main' is not a commit .*moves"),
        (HF + ROW, "models.m: revision is missing"),
        (HF.replace("a/b", "ab") + f'revision = "{"0" * 40}"\n' + ROW, "'ab' is not OWNER/NAME"),
        (HF + f'revision = "{"0" * 40}"\nfile = "a.bin"\n' + ROW, "models.m.file: 'a.bin' is not the name of a .gguf file"),
        (HF + f'revision = "{"0" * 40}"\nfile = "q/a.gguf"\n' + ROW, "models.m.file: 'q/a.gguf' is not"),
        ('[models.m]\nsource = "local"\npath = "absent"\nconv_template = "LM"\n' + ROW, "absent is not a directory"),
        ('[models.m]\nsource = "local"\npath = "."\n' + ROW, "conv_template is missing"),
        ('[models.m]\nsource = "local"\npath = "."\nconv_template = "chatmi"\n' + ROW, "models.m.conv_template: .*chatml"),
        ('[models.m]\nsource = "locale"\n' + ROW, "unknown source 'locale' .*'local'"),
        ("[models.m]\n" + ROW, "models.m: source is missing"),
        ('[models."a b"]\nsource = "embedded"\n' + ROW.replace('"m"', '"a b"'), "names are letters"),
        ('[models.other]\nsource = "embedded"\n' + ROW.replace('"m"', '"other"'), "unknown embedded model"),
        (TINY + 'questions = "absent.json"\n' + TINY_ROW, "absent.json is not a file"),
        (TINY + TINY_ROW + '[quantizations.q0f31]\nencoding = "raw"\n', "unknown quantization 'q0f31' .*'q0f32'"),
        (TINY + TINY_ROW + '[quantizations.q0f32]\nencodings = "raw"\n', "unknown key 'encodings' .*'encoding'"),
        (TINY + TINY_ROW + '[quantizations.q0f32]\nencoding = "row"\n', r"quantizations.q0f32.encoding: unknown encoding 'row' .*'raw'"),
        (TINY + TINY_ROW + '[quantizations.q0f16]\nencoding = "raw"\n', "changes nothing: q0f16 stores no float32"),
        (TINY + TINY_ROW + '[targets.t]\nmcpu = "x"\n', "targets.t: base is missing"),
        (TINY + TINY_ROW + '[targets.t]\nbase = "linux"\n', "targets.t: unknown target 'linux'"),
        (TINY + TINY_ROW + '[targets.t]\nbase = "linux-x86_64-cpu"\nmcup = "x"\n', "targets.t: .*mcup.*mcpu"),
        (TINY + TINY_ROW + '[targets.linux-x86_64-cpu]\nbase = "linux-x86_64-cpu"\n', "is built in"),
        ("models = 3\n" + TINY_ROW, "models: expected tables"),
        ("release = 3\n" + TINY, r"release: expected \[\[release\]\] tables"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        load(write(tmp_path, text))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = TINY + "colour = 1\n" + TINY_ROW.replace("256", "-1").replace("q0f32", "q0")
    with pytest.raises(BuildError) as caught:
        load(write(tmp_path, text))
    heading, *lines = str(caught.value).splitlines()
    assert heading.endswith("matrix.toml: 3 mistakes")
    assert len(lines) == 3


def test_a_missing_matrix_says_how_to_choose_one(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="No such file") as caught:
        load(tmp_path / "absent.toml")
    assert "OLMILL_MATRIX" in (caught.value.hint or "")


def test_a_matrix_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "matrix.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BuildError, match="not UTF-8"):
        load(path)
