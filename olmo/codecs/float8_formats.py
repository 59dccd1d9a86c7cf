"""The float8 formats (arXiv:2209.05433), as data; imports neither numpy nor tvm."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Float8:
    """A float8 format: bits of its mantissa, bias of its exponent, its largest value."""

    mantissa: int
    bias: int
    largest: float


FLOAT8: Mapping[str, Float8] = {
    "float8_e4m3fn": Float8(3, 7, 448.0),
    "float8_e5m2": Float8(2, 15, 57344.0),
}
