"""The quantizations MLC names, as data.

A quantization maps each weight of the model to the tensors that store it. Imports neither numpy
nor tvm: the arithmetic is in `olmo.group_quantization`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from olmo.errors import OlmoError, unknown

Kind = Literal["none", "group", "awq", "fp8", "ft"]
Layout = Literal["NK", "KN"]


@dataclass(frozen=True, slots=True)
class Quantization:
    """One row of the table.

    `model_dtype` is the dtype of activations, scales and unquantized weights. A group quantization
    stores `group_size` elements along K with one scale, `bits` each, packed into uint32 words, the
    lowest bits first; stored values run from 0 to 2·`max_int`. Layout NK keeps [out, in], KN is
    transposed (the embedding is always NK). An fp8 quantization stores elements of `weight_dtype`
    with the float32 numbers named in `scales`, one each of a whole matrix. `unsupported` is the
    reason why it cannot be built, None where it can.
    """

    name: str
    kind: Kind
    model_dtype: str
    bits: int = 0
    group_size: int = 0
    max_int: int = 0
    layout: Layout = "NK"
    quantize_embedding: bool = True
    quantize_final_fc: bool = True
    weight_dtype: str = "uint32"
    scales: tuple[str, ...] = ()
    unsupported: str | None = None

    @property
    def supported(self) -> bool:
        """Whether models can be built with it."""
        return self.unsupported is None

    @property
    def per_word(self) -> int:
        """Elements in one uint32 word: 8 of 4 bits, 10 of 3 bits."""
        return 32 // self.bits

    def groups(self, k: int) -> int:
        """Return the number of groups, so of scales, along an input dimension of `k` elements."""
        return -(-k // self.group_size)

    def words(self, k: int) -> int:
        """Return the number of uint32 words along an input dimension of `k` elements."""
        return self.groups(k) * (self.group_size // self.per_word)


def _plain(name: str, dtype: str, unsupported: str | None = None) -> Quantization:
    return Quantization(name, "none", dtype, unsupported=unsupported)


def _group(
    name: str,
    dtype: str,
    bits: int,
    *,
    layout: Layout = "NK",
    linears_only: bool = False,
    unsupported: str | None = None,
) -> Quantization:
    return Quantization(
        name,
        "group",
        dtype,
        bits=bits,
        group_size={3: 40, 4: 32}[bits],
        max_int=2 ** (bits - 1) - 1,
        layout=layout,
        quantize_embedding=not linears_only,
        quantize_final_fc=not linears_only,
        unsupported=unsupported,
    )


def _linears_only(name: str, kind: Kind, weight_dtype: str, **fields: Any) -> Quantization:
    fields |= {"quantize_embedding": False, "quantize_final_fc": False}
    return Quantization(name, kind, "float16", weight_dtype=weight_dtype, **fields)


_ALL = (
    _plain("q0f16", "float16"),
    _plain("q0bf16", "bfloat16"),
    _plain("q0f32", "float32"),
    _group("q3f16_0", "float16", 3, layout="KN"),
    _group("q3f16_1", "float16", 3),
    _group("q4f16_0", "float16", 4, layout="KN"),
    _group("q4f16_1", "float16", 4),
    _group("q4f16_2", "float16", 4, linears_only=True),
    _group("q4bf16_0", "bfloat16", 4, layout="KN"),
    _group("q4bf16_1", "bfloat16", 4),
    _group("q4f32_1", "float32", 4),
    _linears_only("q4f16_awq", "awq", "uint32", bits=4, group_size=128, max_int=7),
    _linears_only("q4f16_autoawq", "awq", "uint32", bits=4, group_size=128, max_int=7),
    _linears_only("e5m2_e5m2_f16", "fp8", "float8_e5m2"),
    _linears_only(
        "e4m3_e4m3_f16", "fp8", "float8_e4m3fn", scales=("q_scale", "q_calibration_scale")
    ),
    _linears_only("e4m3_e4m3_f16_max_calibrate", "fp8", "float8_e4m3fn", scales=("q_scale",)),
    _linears_only(
        "q4f16_ft",
        "ft",
        "int8",
        unsupported="its CUTLASS kernels are absent from the apache-tvm runtime",
    ),
)

QUANTIZATIONS: Mapping[str, Quantization] = {q.name: q for q in _ALL}


def quantization(name: str) -> Quantization:
    """Return the quantization of this name.

    Raises:
        OlmoError: no such quantization (with a suggestion), or one that cannot be built.
    """
    found = QUANTIZATIONS.get(name)
    if found is None:
        raise unknown("quantization", name, QUANTIZATIONS)
    if found.unsupported is not None:
        buildable = ", ".join(q.name for q in _ALL if q.supported)
        raise OlmoError(
            f"quantization {name!r} cannot be built: {found.unsupported}", f"choose {buildable}"
        )
    return found
