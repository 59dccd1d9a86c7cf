import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from olmo.checkpoints import gguf_header
from olmo.checkpoints.checkpoint import open_checkpoint
from olmo.checkpoints.gguf_file import read_header
from olmo.checkpoints.model_config import read_model_config
from olmo.checkpoints.source_tensor import SourceTensor
from olmo.errors import OlmoError
from tests.olmo.gguf_files import metadata, permuted, write_gguf
from tests.olmo.sample_checkpoints import config, tensors

GOLDEN = Path(__file__).parents[2] / "golden"
PUB_A = read_model_config(GOLDEN / "pub-a").parse()
CONFIG = config()
VALUES = tensors(CONFIG)
DECODED = sorted(
    {name for name, _, _ in gguf_header.TYPES.values()}
    - {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}
)


@contextmanager
def opened(path: Path) -> Iterator[dict[str, SourceTensor]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield read_header(descriptor, path.name, CONFIG)
    finally:
        os.close(descriptor)


def whole(tensor: SourceTensor) -> np.ndarray[Any, Any]:
    return tensor.read_rows(0, tensor.shape[0], np.empty(tensor.shape, np.float32))


def write_blocks(path: Path, name: str, kind: str, blocks: np.ndarray[Any, Any]) -> None:
    writer = gguf.GGUFWriter(path, "olmo")
    writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_float32_comes_back_exactly(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, VALUES)
    with open_checkpoint(path, CONFIG) as found:
        assert found.keys() == VALUES.keys()
        assert all(np.array_equal(whole(found[name]), VALUES[name]) for name in VALUES)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_rows_that_are_not_reordered_may_be_read_directly(tmp_path: Path, kind: str) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, VALUES, kind)
    reordered = ("q_proj.weight", "k_proj.weight")
    with opened(path) as found:
        for name, tensor in found.items():
            assert tensor.plain == (not name.endswith(reordered))
            assert tensor.is_weight


@pytest.mark.parametrize("kind", DECODED)
@pytest.mark.parametrize("part", ["attn_k", "ffn_up"])
def test_every_type_is_decoded(tmp_path: Path, kind: str, part: str) -> None:
    block, nbytes = next(t[1:] for t in gguf_header.TYPES.values() if t[0] == kind)
    seed = int.from_bytes(hashlib.sha256(kind.encode()).digest()[:4])
    blocks = np.random.default_rng(seed).integers(0, 256, (16, nbytes * 2), np.uint8)
    write_blocks(tmp_path / "m.gguf", f"blk.0.{part}.weight", kind, blocks)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = dequantize(blocks, gguf.GGMLQuantizationType[kind])
    with opened(tmp_path / "m.gguf") as found:
        (tensor,) = found.values()
        assert tensor.shape == (16, block * 2)
        rows = whole(tensor)
    if part == "attn_k":
        rows = permuted(rows, CONFIG.head_dim)
    assert np.array_equal(rows, stored, equal_nan=True)


@given(st.integers(0, 63), st.integers(1, 64))
def test_any_rows_of_a_reordered_tensor(start: int, count: int) -> None:
    stop = min(start + count, 64)
    name = "model.layers.1.self_attn.k_proj.weight"
    with (
        open_checkpoint(GOLDEN / "pub-a-gguf" / "pub-a-f32.gguf", PUB_A) as found,
        open_checkpoint(GOLDEN / "pub-a", PUB_A) as expected,
    ):
        rows, same = (np.empty((stop - start, 64), np.float32) for _ in range(2))
        found[name].read_rows(start, stop, rows)
        expected[name].read_rows(start, stop, same)
    assert np.array_equal(rows, same)


def test_a_type_that_cannot_be_decoded(tmp_path: Path) -> None:
    write_blocks(tmp_path / "m.gguf", "output.weight", "Q8_1", np.zeros((2, 40), np.uint8))
    with pytest.raises(OlmoError, match=r"m\.gguf: tensor 'output\.weight' is Q8_1") as caught:
        opened(tmp_path / "m.gguf").__enter__()
    assert caught.value.hint == "convert the model to F16, Q8_0 or safetensors"


def test_integers_are_no_weights(tmp_path: Path) -> None:
    values = VALUES | {"model.embed_tokens.weight": np.zeros((40, 32), np.int32)}
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "olmo")
    writer.add_tensor("token_embd.weight", values["model.embed_tokens.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with opened(path) as found:
        assert not found["model.embed_tokens.weight"].is_weight


def test_rows_that_heads_do_not_divide(tmp_path: Path) -> None:
    write_blocks(tmp_path / "m.gguf", "blk.0.attn_q.weight", "F32", np.zeros((12, 32), np.float32))
    with pytest.raises(OlmoError, match="12 rows, which heads of 8 do not divide"):
        opened(tmp_path / "m.gguf").__enter__()


def test_a_tensor_under_two_names(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "olmo")
    for name in ("output.weight", "lm_head.weight"):
        writer.add_tensor(name, np.zeros((40, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(OlmoError, match=r"m\.gguf: holds 'lm_head\.weight' twice"):
        opened(tmp_path / "m.gguf").__enter__()


@pytest.mark.parametrize("number", ["00", "9" * 5000, "\u0661"])
def test_numbers_that_are_no_layers(tmp_path: Path, number: str) -> None:
    name = f"blk.{number}.attn_v.weight"
    write_blocks(tmp_path / "m.gguf", name, "F32", np.zeros((1, 32), np.float32))
    with opened(tmp_path / "m.gguf") as found:
        assert list(found) == [name]


def test_names_that_are_not_of_the_model_are_kept(tmp_path: Path) -> None:
    write_blocks(
        tmp_path / "m.gguf", "blk.0.attn_norm.weight", "F32", np.zeros((1, 32), np.float32)
    )
    with opened(tmp_path / "m.gguf") as found:
        assert list(found) == ["blk.0.attn_norm.weight"]


def test_a_config_of_another_model(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf", CONFIG, VALUES, said=metadata(olmo__attention__head_count_kv=4)
    )
    with (
        pytest.raises(OlmoError, match=r"olmo\.attention\.head_count_kv is 4, but 2 by config"),
        open_checkpoint(path, CONFIG),
    ):
        pytest.fail("the checkpoint was accepted")
