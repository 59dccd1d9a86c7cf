"""The tensors of a GGUF file of an OLMo, under their Hugging Face names and in their row order.

llama.cpp rotates neighbours where transformers rotates halves, so its converter reorders the rows
of each head of q and k; they are read in the original order here. Blocks are decoded with gguf's own
`dequantize`, the reference of llama.cpp's formats.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import QuantError, dequantize
from numpy.typing import NDArray

from olmo.checkpoints.gguf_config import check_agreement
from olmo.checkpoints.gguf_header import TensorInfo, parse_header
from olmo.checkpoints.source_tensor import DTYPES, SourceTensor, read_exactly
from olmo.codecs.floats import F32
from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError

# Types whose elements lie in the file as they are.
_PLAIN: Mapping[str, str] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_INTEGERS_AND_DOUBLES = ("I8", "I16", "I32", "I64", "F64")

# llama.cpp's tensor names (gguf's tensor_mapping.py, architecture olmo).
_NAMES: Mapping[str, str] = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES: Mapping[str, str] = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,8})\.(\w+)\.weight")
_REORDERED = ("attn_q", "attn_k")


def read_header(descriptor: int, file: str, config: OLMoConfig) -> dict[str, SourceTensor]:
    """Return the tensors of an open GGUF file by Hugging Face name; `file` names it in errors.

    A tensor that has no Hugging Face name keeps its own.

    Raises:
        OlmoError: a broken file, one whose metadata contradict `config`, or types of tensors that
            cannot be decoded.
    """
    header = parse_header(descriptor, file)
    check_agreement(header, config, file)
    tensors = {}
    for info in header.tensors:
        name, part = _huggingface_name(info.name)
        head_dim = config.head_dim if part in _REORDERED else None
        if head_dim is not None and info.shape[0] % head_dim:
            raise OlmoError(
                f"{file}: tensor {info.name!r} has {info.shape[0]} rows, which heads of "
                f"{head_dim} do not divide"
            )
        if name in tensors:
            raise OlmoError(f"{file}: holds {name!r} twice, under its own name and llama.cpp's")
        tensors[name] = _source_tensor(name, info, file, descriptor, head_dim)
    return tensors


def _huggingface_name(name: str) -> tuple[str, str | None]:
    """Return a tensor's Hugging Face name, and what it is in its layer."""
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in _LAYER_NAMES:
        return _NAMES.get(name, name), None
    return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight", match[2]


def _source_tensor(
    name: str, info: TensorInfo, file: str, descriptor: int, head_dim: int | None
) -> SourceTensor:
    dtype = _PLAIN.get(info.type, info.type)
    tensor = SourceTensor(name, dtype, info.shape, file, descriptor, info.offset)
    if info.type in _INTEGERS_AND_DOUBLES or (info.type in _PLAIN and head_dim is None):
        return tensor
    _check_decodable(info, file)
    rows = _Rows(info, file, descriptor, head_dim)
    return SourceTensor(
        name, dtype, info.shape, file, descriptor, info.offset, reader=rows.read_rows
    )


def _check_decodable(info: TensorInfo, file: str) -> None:
    if info.type in _PLAIN:
        return
    where = f"{file}: tensor {info.name!r}"
    block = np.zeros((1, info.block_bytes), np.uint8)
    try:
        dequantize(block, GGMLQuantizationType[info.type])
    except (KeyError, NotImplementedError, QuantError):
        raise OlmoError(
            f"{where} is {info.type}, which gguf cannot decode",
            "convert the model to F16, Q8_0 or safetensors",
        ) from None


@dataclass(frozen=True, slots=True)
class _Rows:
    """Reads the rows of a matrix whose blocks are to be decoded or whose rows to be reordered."""

    info: TensorInfo
    file: str
    descriptor: int
    head_dim: int | None

    def read_rows(self, start: int, stop: int, out: F32) -> None:
        """Read rows [start, stop), in Hugging Face's order, as float32."""
        for row, count, first, step in self._runs(start, stop):
            raw = self._read(first, (count - 1) * step + 1)[::step]
            out[row : row + count] = self._decoded(raw)

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (row of `out`, number of rows, first row in the file, distance in the file).

        Row j of half t of a head is row 2·j + t of that head in the file.
        """
        if self.head_dim is None:
            yield 0, stop - start, start, 1
            return
        half = self.head_dim // 2
        row = start
        while row < stop:
            head, within = divmod(row, self.head_dim)
            side, j = divmod(within, half)
            count = min(half - j, stop - row)
            yield row - start, count, head * self.head_dim + 2 * j + side, 2
            row += count

    def _read(self, first: int, count: int) -> NDArray[np.uint8]:
        info = self.info
        row_bytes = info.shape[1] // info.block * info.block_bytes
        raw = np.empty((count, row_bytes), np.uint8)
        offset = info.offset + first * row_bytes
        read_exactly(self.descriptor, raw.reshape(-1).data, offset, self.file, info.name)
        return raw

    def _decoded(self, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        raw = np.ascontiguousarray(raw)
        if self.info.type in _PLAIN:
            values = raw.view(DTYPES[_PLAIN[self.info.type]])
            return values.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # who reads the rows judges the values
            return dequantize(raw, GGMLQuantizationType[self.info.type])
