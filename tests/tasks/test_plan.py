"""From a matrix to nodes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from olmo.quantization import Encoding
from olmo.quantizations import QUANTIZATIONS
from tasks.configuration.matrix import Matrix, load
from tasks.node import Graph, producers
from tasks.plan import KINDS, package_of, plan

ROOT = Path(__file__).resolve().parents[2]
REVISION = "0123456789" * 4

HUB_MODEL = f"""
[models.big]
source = "hf"
repo = "owner/name"
revision = "{REVISION}"
conv_template = "olmo"

[[release]]
models = ["big"]
quantizations = ["q0f32"]
windows = [2048]
targets = ["linux-x86_64-cpu"]
"""


@pytest.fixture
def matrix() -> Matrix:
    return load(ROOT / "matrix.toml")


@pytest.fixture
def default(matrix: Matrix) -> Graph:
    return plan(matrix)


def test_the_default_matrix_makes_36_nodes(default: Graph) -> None:
    counts = {kind: sum(node.kind == kind for node in default.nodes.values()) for kind in KINDS}
    assert counts == {
        "download": 1, "weights": 0, "kernels": 2, "wasm_runtime": 0, "convert": 3, "gen_config": 6, "lower": 6,
        "compile": 6, "verify": 6, "package": 6,
    }  # fmt: skip


def test_names_say_what_a_node_is_for(default: Graph) -> None:
    assert {
        "download:olmo-tiny",
        "kernels:linux-x86_64",
        "convert:olmo-tiny:q4f16_1",
        "gen_config:olmo-tiny:q4f16_1:512",
        "lower:olmo-tiny:q4f16_1:512:llvm",
        "compile:olmo-tiny:q4f16_1:512:linux-x86_64-cpu",
        "verify:olmo-tiny:q4f16_1:512:linux-x86_64-cpu",
        "package:olmo-tiny:q4f16_1:512:linux-x86_64-cpu",
    } <= set(default.nodes)


def test_every_row_ends_in_a_package(matrix: Matrix, default: Graph) -> None:
    assert all(package_of(row) in default.nodes for row in matrix.rows)


def test_conversion_depends_on_no_window_template_or_target(default: Graph) -> None:
    node = default.nodes["convert:olmo-tiny:q4f16_1"]
    assert json.loads(node.params) == {"quantization": QUANTIZATIONS["q4f16_1"].to_json()}
    assert producers(node) == (
        "download:olmo-tiny", "source:olmo-tiny", "kernels:linux-x86_64", "kernels:linux-aarch64"
    )  # fmt: skip


@pytest.mark.parametrize(("encoding", "said"), [("raw", {"encoding": "raw"}), ("f32-to-bf16", {})])
def test_an_encoding_is_in_the_parameters_where_it_is_not_the_default(
    default: Graph, matrix: Matrix, encoding: Encoding, said: dict[str, str]
) -> None:
    changed = plan(replace(matrix, encodings={"q0f32": encoding})).nodes
    node = changed["convert:olmo-tiny:q0f32"]
    expected = {"quantization": QUANTIZATIONS["q0f32"].to_json(), **said}
    assert json.loads(node.params) == expected
    others = [name for name in default.nodes if name != node.name]
    assert [changed[name] for name in others] == [default.nodes[name] for name in others]


def test_kernels_depend_on_nothing_but_the_host(default: Graph) -> None:
    node = default.nodes["kernels:linux-x86_64"]
    assert json.loads(node.params) == {"host": "linux-x86_64"}
    assert producers(node) == ()


def test_lowering_sees_the_kind_of_target_alone(default: Graph) -> None:
    node = default.nodes["lower:olmo-tiny:q4f16_1:512:llvm"]
    assert json.loads(node.params) == {"kind": "llvm"}


def test_nothing_names_a_place_of_this_machine(default: Graph) -> None:
    for node in default.nodes.values():
        assert str(ROOT) not in node.params
        assert not Path(node.destination).is_absolute()


def test_a_hub_model_is_read_from_its_downloads(tmp_path: Path) -> None:
    path = tmp_path / "matrix.toml"
    path.write_text(HUB_MODEL)
    found = plan(load(path))
    assert not found.sources
    reads = ("download:big", "weights:big", "kernels:linux-x86_64", "kernels:linux-aarch64")
    assert producers(found.nodes["convert:big:q0f32"]) == reads
    described = json.loads(found.nodes["download:big"].params)
    weights = json.loads(found.nodes["weights:big"].params)
    for params in (described, weights):
        assert (params["repo"], params["revision"]) == ("owner/name", REVISION)
    assert set(described) == {"repo", "revision", "files"}
    assert weights["weights"][0] == ["model.safetensors", "model.safetensors.index.json"]


def test_libraries_need_no_weights(tmp_path: Path) -> None:
    """A machine without room for the weights of a model builds its libraries."""
    (tmp_path / "matrix.toml").write_text(HUB_MODEL)
    nodes = plan(load(tmp_path / "matrix.toml")).nodes
    (compiled,) = (node for node in nodes.values() if node.kind == "compile")
    needed, rest = set(), [compiled.name]
    while rest:
        name = rest.pop()
        needed.add(nodes[name].kind)
        rest += producers(nodes[name])
    assert needed == {"download", "gen_config", "lower", "compile"}


def test_rows_of_one_target_name_share_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "matrix.toml"
    text = (ROOT / "matrix.toml").read_text()
    path.write_text(
        text.replace('["linux-x86_64-cpu"]', '["linux-x86_64-cpu", "mine"]')
        + '\n[targets.mine]\nbase = "linux-x86_64-cpu"\nmcpu = "x86-64-v4"\n'
    )
    nodes = plan(load(path)).nodes
    assert sum(node.kind == "lower" for node in nodes.values()) == 6
    assert sum(node.kind == "compile" for node in nodes.values()) == 12


def test_a_gguf_file_from_the_hub(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_text(
        f"""
[models.m]
source = "hf"
repo = "a/b"
revision = "{REVISION}"
file = "m-q8_0.gguf"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""
    )
    nodes = plan(load(tmp_path / "matrix.toml")).nodes
    assert json.loads(nodes["download:m"].params)["gguf"] == "m-q8_0.gguf"
    assert "weights:m" not in nodes
    assert "download:m" in producers(nodes["convert:m:q0f32"])


def test_rows_of_several_devices(tmp_path: Path) -> None:
    path = tmp_path / "matrix.toml"
    row = """
[[release]]
models = ["olmo-tiny"]
quantizations = ["q4f16_1"]
windows = [512]
targets = ["linux-x86_64-cpu"]
tensor_parallel_shards = 5
"""
    path.write_text((ROOT / "matrix.toml").read_text() + row + row + "presharded = true\n")
    nodes, plain = plan(load(path)).nodes, plan(load(ROOT / "matrix.toml")).nodes
    assert all(nodes[name] == node for name, node in plain.items())
    target = "linux-x86_64-cpu"
    assert set(nodes) - set(plain) == {
        "convert:olmo-tiny:q4f16_1-tp5",
        "gen_config:olmo-tiny:q4f16_1:512-tp5",
        "lower:olmo-tiny:q4f16_1:512-tp5:llvm",
        *(
            f"{kind}:olmo-tiny:q4f16_1:512-tp5{way}:{target}"
            for kind in ("compile", "verify", "package")
            for way in ("", "-presharded")
        ),
    }
    convert = json.loads(nodes["convert:olmo-tiny:q4f16_1-tp5"].params)
    assert convert == {"quantization": QUANTIZATIONS["q4f16_1"].to_json(), "shards": 5}
    config = json.loads(nodes["gen_config:olmo-tiny:q4f16_1:512-tp5"].params)
    assert config["tensor_parallel_shards"] == 5
    assert "pipeline_parallel_stages" not in config
