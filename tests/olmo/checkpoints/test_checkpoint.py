import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

from olmo.checkpoints.checkpoint import open_checkpoint
from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from tests.olmo.gguf_files import metadata, write_gguf
from tests.olmo.sample_checkpoints import (
    Tensors,
    config,
    tensors,
    write_sharded,
    write_single,
    write_torch,
)

GOLDEN = Path(__file__).parents[2] / "golden"
CONFIG = config()
VALUES = tensors(CONFIG)
NAMES = list(VALUES)


def failure(source: Path, model: OLMoConfig = CONFIG) -> OlmoError:
    with pytest.raises(OlmoError) as caught, open_checkpoint(source, model):
        pytest.fail("the checkpoint was accepted")
    return caught.value


def read(source: Path) -> Tensors:
    with open_checkpoint(source, CONFIG) as found:
        return {
            name: tensor.read_rows(0, tensor.shape[0], np.empty(tensor.shape, np.float32))
            for name, tensor in found.items()
        }


def same(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in found
    )


def test_reads_a_single_file(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES)
    assert same(read(tmp_path), VALUES)
    assert same(read(tmp_path / "model.safetensors"), VALUES)


def test_reads_shards_by_their_index(tmp_path: Path) -> None:
    halves = [{n: VALUES[n] for n in NAMES[::2]}, {n: VALUES[n] for n in NAMES[1::2]}]
    write_sharded(tmp_path, halves)
    assert same(read(tmp_path), VALUES)
    assert same(read(tmp_path / "model.safetensors.index.json"), VALUES)


def test_reads_torch_and_gguf_files(tmp_path: Path) -> None:
    assert same(read(write_torch(tmp_path / "torch", VALUES)), VALUES)
    assert same(read(write_gguf(tmp_path / "gguf" / "m.gguf", CONFIG, VALUES).parent), VALUES)


def test_reads_gguf_files_of_one_model(tmp_path: Path) -> None:
    parts = [{n: VALUES[n] for n in NAMES[i::3]} for i in range(3)]
    for number, part in enumerate(parts, 1):
        path = tmp_path / f"m-{number:05d}-of-00003.gguf"
        write_gguf(path, CONFIG, part, said=metadata() if number == 1 else {})
    assert same(read(tmp_path), VALUES)
    assert same(read(path), VALUES)


def test_inverse_frequencies_are_left_out(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    write_single(tmp_path, VALUES | extra)
    assert same(read(tmp_path), VALUES)


def test_files_are_closed(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES)
    with open_checkpoint(tmp_path, CONFIG) as found:
        tensor = found[NAMES[0]]
    with pytest.raises(OlmoError, match="Bad file descriptor"):
        tensor.read_rows(0, 1, np.empty((1, tensor.shape[1]), np.float32))


def test_an_empty_directory(tmp_path: Path) -> None:
    assert str(failure(tmp_path)).endswith(
        "no model.safetensors[.index.json] or pytorch_model.bin[.index.json] or *.gguf"
    )


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("weights.bin", "to read weights.bin, name it as the source"),
        ("weights.safetensors", "to read weights.safetensors, name it as the source"),
    ],
)
def test_other_files_are_mentioned(tmp_path: Path, file: str, hint: str) -> None:
    (tmp_path / file).touch()
    found = failure(tmp_path).hint
    assert found is not None
    assert found.startswith(hint)


def test_a_format_that_is_not_there(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES)
    with (
        pytest.raises(OlmoError, match=r"no pytorch_model\.bin\[\.index\.json\]$"),
        open_checkpoint(tmp_path, CONFIG, "huggingface-torch"),
    ):
        pytest.fail("the checkpoint was accepted")


def test_an_absent_source(tmp_path: Path) -> None:
    assert "gone: no such file or directory" in str(failure(tmp_path / "gone"))


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    assert "not a regular file" in str(failure(tmp_path))


def test_two_checkpoints_in_one_directory(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES)
    write_sharded(tmp_path, [VALUES])
    assert "both model.safetensors and model.safetensors.index.json" in str(failure(tmp_path))


def test_unknown_source_format(tmp_path: Path) -> None:
    with (
        pytest.raises(OlmoError, match="unknown source format 'safetensor'") as caught,
        open_checkpoint(tmp_path, CONFIG, "safetensor"),
    ):
        pytest.fail("the format was accepted")
    assert caught.value.hint == "did you mean 'huggingface-safetensor'?"


def test_a_truncated_file(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    error = failure(tmp_path)
    assert "goes beyond the end of the file" in str(error)
    assert error.hint == "the file is truncated: download or copy it again"


def without(*names: str) -> Tensors:
    return {name: value for name, value in VALUES.items() if name not in names}


def test_a_missing_tensor(tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.v_proj.weight"
    assert str(failure(write_single(tmp_path, without(name)))).endswith(f"missing tensor {name!r}")


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    error = failure(write_single(tmp_path, without(*NAMES[:5])))
    assert str(error).endswith(
        "missing tensors 'model.embed_tokens.weight', 'model.layers.0.self_attn.q_proj.weight', "
        "'model.layers.0.self_attn.k_proj.weight' and 2 more"
    )


def test_a_missing_head_suggests_tied_embeddings(tmp_path: Path) -> None:
    hint = failure(write_single(tmp_path, without("lm_head.weight"))).hint
    assert hint == "config.json says tie_word_embeddings is false: is it true for this model?"


@pytest.mark.parametrize("write", [write_single, write_torch])
def test_a_copy_of_tied_embeddings_is_left_out(
    tmp_path: Path, write: Callable[[Path, Tensors], Path]
) -> None:
    embedding = VALUES["model.embed_tokens.weight"]
    write(tmp_path, VALUES | {"lm_head.weight": embedding})
    with open_checkpoint(tmp_path, config(tie_word_embeddings=True)) as found:
        assert "lm_head.weight" not in found
        assert len(found) == len(VALUES) - 1


def test_an_unexpected_head_suggests_untied_embeddings(tmp_path: Path) -> None:
    error = failure(write_single(tmp_path, VALUES), config(tie_word_embeddings=True))
    assert "tensor 'lm_head.weight' not expected by config.json" in str(error)
    assert error.hint is not None
    assert "tie_word_embeddings is true" in error.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model.norm.weight", "OLMo has no norm weights: is this checkpoint of another family?"),
        ("model.x.bias", "OLMo has no biases: is this checkpoint of another family?"),
        ("model.layers.2.mlp.up_proj.weight", None),
    ],
)
def test_an_extra_tensor(tmp_path: Path, name: str, hint: str | None) -> None:
    error = failure(write_single(tmp_path, VALUES | {name: np.ones((2, 2), np.float32)}))
    assert str(error) == f"{tmp_path}: tensor {name!r} not expected by config.json"
    assert error.hint == hint


def test_a_wrong_shape(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    error = failure(write_single(tmp_path, VALUES | {name: np.ones((48, 31), np.float32)}))
    assert f"tensor {name!r} has shape [48, 31], but config.json says [48, 32]" in str(error)


def test_a_wrong_dtype(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    error = failure(write_single(tmp_path, VALUES | {name: np.ones((48, 32), np.int32)}))
    expected = f"tensor {name!r} has dtype I32, but weights are bfloat16, float16, float32"
    assert expected in str(error)


@pytest.mark.parametrize("dtype", [np.float16, bfloat16])
def test_half_precision_is_read(tmp_path: Path, dtype: type) -> None:
    rounded: Tensors = {name: value.astype(dtype) for name, value in VALUES.items()}
    write_single(tmp_path, rounded)
    assert same(read(tmp_path), {name: v.astype(np.float32) for name, v in rounded.items()})


def index_of(source: Path) -> Path:
    return source / "model.safetensors.index.json"


def change_index(source: Path, change: Callable[[dict[str, str]], object]) -> None:
    obj = json.loads(index_of(source).read_text())
    change(obj["weight_map"])
    index_of(source).write_text(json.dumps(obj))


def test_an_index_that_names_an_absent_file(tmp_path: Path) -> None:
    write_sharded(tmp_path, [without(NAMES[0]), {NAMES[0]: VALUES[NAMES[0]]}])
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    error = failure(tmp_path)
    assert str(error).endswith("names model-00002-of-00002.safetensors, which is not there")


def test_an_index_that_misplaces_a_tensor(tmp_path: Path) -> None:
    write_sharded(tmp_path, [without(NAMES[0]), {NAMES[0]: VALUES[NAMES[0]]}])
    first = "model-00001-of-00002.safetensors"
    change_index(tmp_path, lambda weight_map: weight_map.update({NAMES[0]: first}))
    assert f"the index places tensor {NAMES[0]!r} in this file" in str(failure(tmp_path))


def test_a_tensor_that_the_index_does_not_name(tmp_path: Path) -> None:
    write_sharded(tmp_path, [VALUES])
    change_index(tmp_path, lambda weight_map: weight_map.pop(NAMES[0]))
    assert f"holds tensor {NAMES[0]!r}, which the index does not name" in str(failure(tmp_path))


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/etc/passwd", "a/../../x", "a\\b", "c:x", "", 3]
)
def test_an_index_that_leads_outside(tmp_path: Path, file: str) -> None:
    write_sharded(tmp_path, [VALUES])
    change_index(tmp_path, lambda weight_map: weight_map.update({NAMES[0]: file}))
    assert f"is placed in {file!r}, outside the checkpoint's directory" in str(failure(tmp_path))


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": []}'])
def test_an_index_without_a_weight_map(tmp_path: Path, text: str) -> None:
    index_of(tmp_path).write_text(text)
    assert str(failure(tmp_path)).endswith("no weight_map")


def test_an_index_that_is_not_json(tmp_path: Path) -> None:
    index_of(tmp_path).write_text("{")
    assert "model.safetensors.index.json: not JSON" in str(failure(tmp_path))
