"""Local checkpoints of every format, through plan, keys and realisation."""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from cache.digest import Digest
from cache.local.store import LocalStore
from cache.tiered import TieredStore
from tasks.board import Board
from tasks.configuration.matrix import load
from tasks.errors import BuildError
from tasks.keys import Keys
from tasks.node import Node, Selection
from tasks.plan import KERNEL_HOSTS, plan
from tasks.realise import outputs_of, realise
from tasks.workspace import Workspace, source_files
from tests.first_build import FirstBuild

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
KERNELS = {f"kernels/kernels-{host}.so" for host in KERNEL_HOSTS}
FILES = {
    "safetensors": [GOLDEN / "pub-a" / "config.json", GOLDEN / "pub-a" / "model.safetensors"],
    "torch": [
        path
        for path in sorted((GOLDEN / "pub-a-torch").iterdir())
        if path.name != "generation_config.json"
    ],
    "gguf": [GOLDEN / "pub-a-gguf" / "pub-a-f32.gguf"],
}


def everything(space: Workspace, name: str) -> Mapping[str, Digest]:
    return outputs_of(space, Selection(name, ("*",)))


def workspace(tmp_path: Path, checkpoint: str, store: Path | None = None) -> Workspace:
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(f"""
[models.m]
source = "local"
path = "{checkpoint}"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q4f16_1"]
windows = [256]
targets = ["linux-x86_64-cpu"]
""")
    return Workspace(
        tmp_path, ROOT, plan(load(matrix)), TieredStore(LocalStore(store or tmp_path / "store"))
    )


def place(directory: Path, files: list[Path]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for path in [*files, GOLDEN / "pub-a" / "tokenizer.json"]:
        shutil.copyfile(path, directory / path.name)
    return directory


def node(space: Workspace, kind: str) -> Node:
    return next(node for node in space.graph.nodes.values() if node.kind == kind)


def made(space: Workspace, *kinds: str) -> dict[str, dict[str, str]]:
    """Realise nodes of some kinds; return the digests of their outputs by path."""
    keys, board = Keys(space), Board(space.graph.nodes)
    found = {}
    for name, each in space.graph.nodes.items():
        if each.kind in kinds:
            result = realise(space, keys, each, board, lambda _: [])
            found[each.kind if each.kind != "kernels" else name] = result.outputs
    return {kind: {path: str(digest) for path, digest in o.items()} for kind, o in found.items()}


def inputs(space: Workspace, kind: str) -> set[str]:
    """Places of the inputs of a node, as its key sees them."""
    return set(Keys(space).keyed(node(space, kind), partial(outputs_of, space)).inputs)


def test_every_format_of_the_same_weights_makes_the_same_artifacts(
    tmp_path: Path, first: FirstBuild
) -> None:
    results, store = {}, first.kernels(tmp_path / "store")
    for name, files in FILES.items():
        place(tmp_path / name / "c", files)
        space = workspace(tmp_path / name, "c", store)
        results[name] = made(space, "download", "kernels", "convert", "gen_config")
        names = {path.name for path in files if path.name != "config.json"}
        assert inputs(space, "convert") == {
            "architecture.json", *KERNELS, *(f"checkpoint/{file}" for file in names)
        }  # fmt: skip
    for name in ("torch", "gguf"):
        found, expected = results[name], results["safetensors"]
        assert found["convert"] == expected["convert"]
        assert found["download"]["architecture.json"] == expected["download"]["architecture.json"]
        assert found["gen_config"]["compile-spec.json"] == expected["gen_config"]["compile-spec.json"]  # fmt: skip
    assert results["torch"]["gen_config"] == results["safetensors"]["gen_config"]


def test_of_several_formats_the_first_is_read(tmp_path: Path) -> None:
    place(tmp_path / "c", [*FILES["safetensors"], *FILES["torch"], *FILES["gguf"]])
    (tmp_path / "c" / "optimizer.bin").touch()
    space = workspace(tmp_path, "c")
    (source,) = space.graph.sources.values()
    assert set(source_files(source)) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_one_of_several_gguf_files(tmp_path: Path, first: FirstBuild) -> None:
    files = sorted((GOLDEN / "pub-a-gguf").iterdir())
    place(tmp_path / "c", files)
    space = workspace(tmp_path, "c/pub-a-f16.gguf", first.kernels(tmp_path / "store"))
    made(space, "download", "kernels")
    assert inputs(space, "download") == {"pub-a-f16.gguf"}
    assert inputs(space, "convert") == {
        "architecture.json", *KERNELS, "checkpoint/pub-a-f16.gguf"
    }  # fmt: skip
    with pytest.raises(Exception, match=r"pub-a-f16\.gguf and pub-a-f32\.gguf are there"):
        made(workspace(tmp_path, "c"), "download")


def test_a_config_that_contradicts_its_gguf_file(tmp_path: Path) -> None:
    place(tmp_path / "c", [*FILES["gguf"], FILES["safetensors"][0]])
    config = tmp_path / "c" / "config.json"
    made(workspace(tmp_path, "c"), "download")
    config.write_text(config.read_text().replace("10000.0", "500000.0"))
    with pytest.raises(Exception, match=r"c/config\.json: position_embedding_base is 500000"):
        made(workspace(tmp_path, "c"), "download")


def test_a_checkpoint_without_weights_or_config(tmp_path: Path) -> None:
    place(tmp_path / "c", [FILES["safetensors"][1]])
    with pytest.raises(BuildError, match=r"c has no config\.json or \*\.gguf"):
        made(workspace(tmp_path, "c"), "download")
    place(tmp_path / "c", [FILES["safetensors"][0]])
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(BuildError, match=r"c has no model\.safetensors or .* or \*\.gguf"):
        made(workspace(tmp_path, "c"), "download")


def test_a_gguf_file_has_its_tokenizer_inside(tmp_path: Path) -> None:
    place(tmp_path / "c", FILES["gguf"])
    (tmp_path / "c" / "tokenizer.json").unlink()
    space = workspace(tmp_path, "c")
    outputs = made(space, "download", "gen_config")
    assert "gguf-tokenizer.json" in outputs["download"]
    assert inputs(space, "gen_config") == {
        "checkpoint/config.json", "checkpoint/gguf-tokenizer.json",
    }  # fmt: skip
    directory = tmp_path / node(space, "gen_config").destination
    found = Tokenizer.from_file(str(directory / "tokenizer.json"))
    expected = Tokenizer.from_file(str(GOLDEN / "pub-a" / "tokenizer.json"))
    assert found.encode("What day is it?").ids == expected.encode("What day is it?").ids
    chat_config = json.loads((directory / "mlc-chat-config.json").read_bytes())
    assert chat_config["active_vocab_size"] == 300
    assert chat_config["tokenizer_files"] == ["tokenizer.json"]
