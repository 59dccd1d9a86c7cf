"""The quantizations MLC names: one row each, and nothing elsewhere to add.

Steps of a build are given a quantization's data, not its name, and so do not import this: a new row
leaves the keys of all others as they are.
"""

from collections.abc import Mapping
from typing import Any

from olmo.errors import OlmoError, unknown
from olmo.quantization import Kind, Layout, Quantization


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
