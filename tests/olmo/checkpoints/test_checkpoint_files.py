import os
from pathlib import Path

import pytest

from olmo.checkpoints.checkpoint_files import GGUF, describe, layout, open_file
from olmo.errors import OlmoError
from tests.olmo.gguf_files import write_gguf
from tests.olmo.sample_checkpoints import config, tensors, write_single, write_torch

GOLDEN = Path(__file__).parents[2] / "golden"
VALUES = tensors(config())


def test_finds_the_format_by_content(tmp_path: Path) -> None:
    write_torch(tmp_path, VALUES)
    assert describe(tmp_path) == "huggingface-torch, 1 file"
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "x")
    assert describe(tmp_path / "x") == "huggingface-torch, 1 file"
    write_single(tmp_path, VALUES)
    (tmp_path / "x").rename(tmp_path / "pytorch_model.bin")
    assert describe(tmp_path) == "huggingface-safetensor, 1 file"
    assert describe(tmp_path, "huggingface-torch") == "huggingface-torch, 1 file"
    index = GOLDEN / "pub-a-torch" / "pytorch_model.bin.index.json"
    assert describe(index) == describe(index.parent) == "huggingface-torch, 2 files"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "m.gguf", "x"])
def test_names_do_not_decide(tmp_path: Path, name: str) -> None:
    write_gguf(tmp_path / name, config(), VALUES)
    assert describe(tmp_path / name) == "gguf, 1 file"
    if name != "x":
        assert describe(tmp_path) == "gguf, 1 file"


def test_a_file_that_begins_as_none_is_of_the_format_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02\x8a\x0a")  # as before torch 1.6
    assert describe(tmp_path) == "huggingface-torch, 1 file"
    assert describe(tmp_path / "pytorch_model.bin") == "huggingface-torch, 1 file"
    (tmp_path / "x").write_bytes(b"?")
    assert describe(tmp_path / "x") == "huggingface-safetensor, 1 file"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(OlmoError, match=r"model\.safetensors: not a regular file"):
        open_file(tmp_path / "model.safetensors")


def test_a_gguf_file_in_parts_is_read_whole(tmp_path: Path) -> None:
    names = [f"m-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    for name in reversed(names):
        (tmp_path / name).write_bytes(b"GGUF")
    for source in (tmp_path, tmp_path / names[1]):
        found = layout(source)
        assert found.format is GGUF
        assert [path.name for path, _ in found.files] == names
    (tmp_path / names[1]).unlink()
    with pytest.raises(OlmoError, match=f"{names[1]} of the same model is not there") as caught:
        layout(tmp_path / names[0])
    assert caught.value.hint == "download the missing file"


def test_gguf_files_of_two_models(tmp_path: Path) -> None:
    for name in ("a-Q4_K.gguf", "a-Q8_0.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(OlmoError, match=r"a-Q4_K\.gguf and a-Q8_0\.gguf are there") as caught:
        layout(tmp_path)
    assert caught.value.hint == "name one of them as the source"
    assert describe(tmp_path / "a-Q8_0.gguf") == "gguf, 1 file"


def test_a_directory_without_gguf(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES)
    with pytest.raises(OlmoError, match=r"no \*\.gguf$"):
        layout(tmp_path, "gguf")
