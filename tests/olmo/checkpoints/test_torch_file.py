import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from olmo.checkpoints.torch_file import read_header
from olmo.configuration.config import OLMoConfig
from olmo.conversion.convert import convert
from olmo.errors import OlmoError
from olmo.quantizations import QUANTIZATIONS
from tests.olmo.sample_checkpoints import (
    Tensors,
    pickled_table,
    pickled_tensor,
    torch_archive,
    torch_bytes,
)

GOLDEN = Path(__file__).parents[2] / "golden"


def values_of(path: Path) -> Tensors:
    """Read every matrix of a file as float32."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return {
            name: tensor.read_rows(0, tensor.shape[0], np.empty(tensor.shape, np.float32))
            for name, tensor in read_header(descriptor, "f").items()
            if len(tensor.shape) == 2
        }
    finally:
        os.close(descriptor)


def message(path: Path, data: bytes | None = None) -> str:
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(OlmoError) as caught:
        values_of(path)
    assert str(caught.value).startswith("f: ")
    return str(caught.value)


def test_reads_views_strides_and_dtypes_of_a_real_file() -> None:
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = values_of(GOLDEN / "torch-views.bin")
    assert list(found) == ["base", "view", "transposed", "half", "bf16"]
    assert np.array_equal(found["base"], base)
    assert np.array_equal(found["view"], base[1:])
    assert np.array_equal(found["transposed"], base.T)
    assert np.array_equal(found["half"], base)
    assert np.array_equal(found["bf16"], base)


def test_reads_some_rows_of_a_transposed_tensor() -> None:
    descriptor = os.open(GOLDEN / "torch-views.bin", os.O_RDONLY)
    tensor = read_header(descriptor, "f")["transposed"]
    out = tensor.read_rows(1, 3, np.empty((2, 3), np.float32))
    os.close(descriptor)
    assert np.array_equal(out, [[1, 5, 9], [2, 6, 10]])


def test_a_scalar_is_described() -> None:
    descriptor = os.open(GOLDEN / "torch-views.bin", os.O_RDONLY)
    scalar = read_header(descriptor, "f")["scalar"]
    data = os.pread(descriptor, 8, scalar.offset)
    os.close(descriptor)
    assert (scalar.dtype, scalar.shape, scalar.elements) == ("int64", (), 1)
    assert int.from_bytes(data, "little") == 3


def test_a_pickle_that_runs_a_command_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = message(GOLDEN / "torch-evil.bin")
    assert text == "f: refused: its pickle names posix.system, which no weights need"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1"])
def test_converts_to_the_tensors_of_the_safetensors_file(quantization: str, tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "pub-a" / "config.json").read_text())
    for source in ("pub-a", "pub-a-torch"):
        model, q = OLMoConfig.from_huggingface(config), QUANTIZATIONS[quantization]
        convert(GOLDEN / source, model, q, tmp_path / source)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / source).iterdir()}
        for source in ("pub-a", "pub-a-torch")
    )
    assert first == second


VALUES: Tensors = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(6, dtype=np.float16).reshape(3, 2),
    "c": np.arange(4, dtype=np.float32).reshape(2, 2).astype(bfloat16),
}
WHOLE = torch_bytes(VALUES)


def test_reads_a_state_dict(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(WHOLE)
    found = values_of(tmp_path / "f")
    assert all(np.array_equal(found[n], v.astype(np.float32)) for n, v in VALUES.items())


def archive(pickled: bytes, **entries: bytes) -> bytes:
    return torch_archive(pickled, {n.replace("__", "/"): data for n, data in entries.items()})


def tensor(*arguments: Any, **options: Any) -> bytes:
    return pickled_table({"w": pickled_tensor(*arguments, **options)})


def test_the_hand_written_pickle_is_sound(tmp_path: Path) -> None:
    data = np.arange(4, dtype=np.float32)
    (tmp_path / "f").write_bytes(archive(tensor(), data__0=data.tobytes()))
    assert np.array_equal(values_of(tmp_path / "f")["w"], data.reshape(2, 2))


ZEROS = bytes(16)
# A tuple of one tuple twice, of which each is one of another twice: its hash takes 2**60 steps.
SELF_CONTAINING = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))


@pytest.mark.parametrize(
    ("pickled", "text"),
    [
        (tensor(offset=1), "tensor 'w' goes beyond its storage"),
        (tensor(offset=-1), "tensor 'w' goes beyond its storage"),
        (tensor(stride=(3, 1)), "tensor 'w' goes beyond its storage"),
        (tensor(stride=(-2, 1)), "tensor 'w': bad shape or strides"),
        (tensor(size=(2,)), "tensor 'w': bad shape or strides"),
        (tensor(size=[2, 2]), "tensor 'w': bad shape or strides"),
        (tensor(elements=5), "its storage has 16 bytes, but 5 elements of float32"),
        (tensor(elements="4"), "tensor 'w': has no storage"),
        (tensor(key="1"), "its storage x/data/1 is not in the file"),
        (tensor(key=0), "tensor 'w': has no storage"),
        (tensor(kind=b"torch\nComplexFloatStorage"), "its pickle names torch.ComplexFloatStorage"),
        (tensor(kind=b"torch._utils\n_rebuild_tensor_v2"), "names a storage of unknown type"),
        (tensor(rebuild=b"builtins\neval"), "its pickle names builtins.eval"),
        (tensor(rebuild=b"torch\nFloatStorage"), "data.pkl is damaged"),
        (tensor(rebuild=b"collections\nOrderedDict"), "data.pkl is damaged"),
        (b"\x80\x04\x8c\x08builtins\x8c\x09exec.real\x93.", "its pickle names builtins.exec.real"),
        (pickle.dumps([1]), "holds list, not a table of tensors"),
        (pickle.dumps({"w": 1}), "'w' is not a tensor"),
        (pickle.dumps({1: 1}), "its pickle names a key that is no string"),
        (pickle.dumps([{1: 1, 2: 2}]), "its pickle names a key that is no string"),
        (b"\x80\x02}(" + SELF_CONTAINING + b"Nu.", "its pickle names a key that is no string"),
        (pickle.dumps(bytearray(b"w"), 5), "its pickle names the operation BYTEARRAY8"),
        (pickle.dumps({1}), "its pickle names the operation EMPTY_SET"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00wNsb.", "names attributes of"),
        (b"]r\xff\xff\xff\xff.", "holds list, not a table of tensors"),
        (b"}", "data.pkl is damaged"),
        (b"", "data.pkl is damaged"),
    ],
)
def test_a_malformed_pickle(tmp_path: Path, pickled: bytes, text: str) -> None:
    assert text in message(tmp_path / "f", archive(pickled, data__0=ZEROS))


def test_not_a_zip_archive(tmp_path: Path) -> None:
    assert "not a PyTorch file: File is not a zip file" in message(tmp_path / "f", b"\x80\x02.")
    assert "not a PyTorch file" in message(tmp_path / "f", WHOLE[: len(WHOLE) // 2])
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    assert "not a PyTorch file: 0 entries data.pkl" in message(tmp_path / "f", empty.getvalue())


def test_a_damaged_archive(tmp_path: Path) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x/data.pkl", tensor())
    data = bytearray(written.getvalue())
    data[40] = 0xFF  # the first byte of the compressed pickle
    assert "not a PyTorch file: Error -3" in message(tmp_path / "f", bytes(data))
    start = data.index(b"PK\x01\x02") + 42  # where the directory says that the entry is
    data[start : start + 4] = b"\xff\xff\xff\x7f"
    assert "not a PyTorch file" in message(tmp_path / "f", bytes(data))


def test_another_byte_order(tmp_path: Path) -> None:
    data = archive(tensor(), data__0=ZEROS, byteorder=b"big")
    assert "was written by a big-endian machine" in message(tmp_path / "f", data)


def test_compressed_storage(tmp_path: Path) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x/data.pkl", tensor())
        opened.writestr("x/data/0", ZEROS)
    assert "is compressed or encrypted" in message(tmp_path / "f", written.getvalue())


def test_an_oversized_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("olmo.checkpoints.torch_file.MAX_PICKLE_BYTES", 10)
    assert "is larger than 10 bytes" in message(tmp_path / "f", archive(tensor(), data__0=ZEROS))


def test_a_name_that_occurs_twice(tmp_path: Path) -> None:
    data = archive(tensor(), data__0=ZEROS, data__1=ZEROS).replace(b"data/1", b"data/0")
    assert "holds x/data/0 twice" in message(tmp_path / "f", data)


@settings(deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_harmless(tmp_path_factory: Any, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(WHOLE) - 1))
    if data.draw(st.booleans()):
        damaged = WHOLE[:position]
    else:
        byte = data.draw(st.binary(min_size=1, max_size=1))
        damaged = WHOLE[:position] + byte + WHOLE[position + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    try:
        found = values_of(path)
    except OlmoError:
        return
    assert len(damaged) == len(WHOLE)
    assert all(value.dtype == np.float32 for value in found.values())
