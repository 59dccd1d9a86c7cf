"""Number formats in TIR: expressions that round float32, store it and read it back.

Bit for bit what `olmo.codecs.floats` and `olmo.codecs.float8` compute in numpy. `lanes` is the length of the
vectors that an expression works on, 1 for scalars.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import struct
from typing import Any

from tvm.tirx.script import builder as T  # noqa: N812  as all of TVM abbreviates it

from olmo.codecs.codec import Codec, Dtype
from olmo.codecs.float8_formats import FLOAT8, Float8

Expression = Any  # tvm's

_MAGNITUDE = 0x7FFFFFFF
_BFLOAT16_MAX = 0x7F7F0000


def round_to(x: Expression, dtype: Dtype, lanes: int) -> Expression:
    """Round float32 to the values of a dtype, kept as float32."""
    if dtype == "float16":
        return T.bind(widen(T.cast(x, _typed("float16", lanes)), "float16", lanes))
    if dtype == "bfloat16":
        bits = _rounded_bits(T.reinterpret(_typed("uint32", lanes), x), lanes)
        bits = bits & _uints(0xFFFF0000, lanes)
        return T.bind(T.reinterpret(_typed("float32", lanes), bits))
    return x


def encode(x: Expression, codec: Codec, lanes: int) -> Expression:
    """Return as stored what has been rounded to the codec's dtype.

    float32 is rounded to bfloat16 here, but truncated from the largest bfloat16 on, as MLC does.
    """
    if codec.stored == "float16":
        return T.cast(x, _typed("float16", lanes))
    if codec.stored == "float32":
        return x
    bits = T.bind(T.reinterpret(_typed("uint32", lanes), x))
    if codec.stored in FLOAT8:
        return _float8_bits(bits, FLOAT8[codec.stored], lanes)
    if codec.dtype == "float32":
        large = (bits & _uints(_MAGNITUDE, lanes)) >= _uints(_BFLOAT16_MAX, lanes)
        bits = T.Select(large, bits, _rounded_bits(bits, lanes))
    return T.cast(bits >> _uints(16, lanes), _typed("uint16", lanes))


def _float8_bits(bits: Expression, form: Float8, lanes: int) -> Expression:
    """Return the float8 that the bits of a float32 become: see `olmo.codecs.float8`."""
    drop = 23 - form.mantissa
    largest = struct.unpack("<I", struct.pack("<f", form.largest))[0]
    magnitude = T.bind(T.min(bits & _uints(_MAGNITUDE, lanes), _uints(largest, lanes)))
    odd = (magnitude >> _uints(drop, lanes)) & _uints(1, lanes)
    rounded = T.bind(
        (magnitude + (odd + _uints((1 << (drop - 1)) - 1, lanes))) >> _uints(drop, lanes)
    )
    lowest = _uints((127 - form.bias) << form.mantissa, lanes)
    sign = (bits >> _uints(24, lanes)) & _uints(0x80, lanes)
    code = T.Select(rounded < lowest, _uints(0, lanes), (rounded - lowest) | sign)
    return T.cast(code, _typed("uint8", lanes))


def _rounded_bits(bits: Expression, lanes: int) -> Expression:
    """Return bits whose upper half is the nearest bfloat16, ties to even."""
    odd = (bits >> _uints(16, lanes)) & _uints(1, lanes)
    return bits + (odd + _uints(0x7FFF, lanes))


def widen(x: Expression, dtype: Dtype, lanes: int) -> Expression:
    """Return elements as memory holds them in float32."""
    if dtype == "bfloat16":
        bits = T.cast(x, _typed("uint32", lanes)) << _uints(16, lanes)
        return T.reinterpret(_typed("float32", lanes), bits)
    if dtype in FLOAT8:
        return _widen_float8(T.cast(x, _typed("uint16", lanes)), FLOAT8[dtype], lanes)
    return T.cast(x, _typed("float32", lanes)) if dtype == "float16" else x


def _widen_float8(bits: Expression, form: Float8, lanes: int) -> Expression:
    """Return float8 in float32, by way of float16: its bits in place, then the bias made up for."""
    sign = (bits & _halves(0x80, lanes)) << _halves(8, lanes)
    rest = (bits & _halves(0x7F, lanes)) << _halves(10 - form.mantissa, lanes)
    half = T.reinterpret(_typed("float16", lanes), sign | rest)
    factor = T.FloatImm("float32", 2.0 ** (15 - form.bias))
    wide = T.cast(half, _typed("float32", lanes))
    return T.bind(wide * (factor if lanes == 1 else T.Broadcast(factor, lanes)))


def in_memory(dtype: Dtype) -> str:
    """Return the dtype by which kernels address elements of a dtype."""
    if dtype in FLOAT8:
        return "uint8"
    return "uint16" if dtype == "bfloat16" else dtype


def _typed(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _uints(value: int, lanes: int) -> Expression:
    one = T.IntImm("uint32", value)
    return one if lanes == 1 else T.Broadcast(one, lanes)


def _halves(value: int, lanes: int) -> Expression:
    one = T.IntImm("uint16", value)
    return one if lanes == 1 else T.Broadcast(one, lanes)
