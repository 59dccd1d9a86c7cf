"""What a quantization is, as data: it maps each weight of a model to the tensors that store it.

Apart from the table of quantizations (`olmo.quantizations`), so that a new row of it leaves the keys
of others as they are. Imports neither numpy nor tvm: `olmo.codecs.numpy_codec` has the arithmetic.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from olmo.errors import OlmoError, unknown

Kind = Literal["none", "group", "awq", "fp8", "ft"]
Layout = Literal["NK", "KN"]
# How float32 tensors are stored: as bfloat16, as MLC does, or as they are.
Encoding = Literal["f32-to-bf16", "raw"]

SHORTENED: Encoding = "f32-to-bf16"
ENCODINGS: Mapping[str, Encoding] = {SHORTENED: SHORTENED, "raw": "raw"}


@dataclass(frozen=True, slots=True)
class Quantization:
    """One quantization.

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

    def encoding(self, name: str) -> Encoding:
        """Return the encoding of this name.

        Raises:
            OlmoError: no such encoding, or one that has no meaning: nothing stored is float32.
        """
        if name not in ENCODINGS:
            raise unknown("encoding", name, ENCODINGS)
        if name != SHORTENED and self.model_dtype != "float32" and not self.scales:
            raise OlmoError(
                f"encoding {name!r} changes nothing: {self.name} stores no float32",
                "leave encoding out, or choose q0f32 or q4f32_1",
            )
        return ENCODINGS[name]

    def groups(self, k: int) -> int:
        """Return the number of groups, so of scales, along an input dimension of `k` elements."""
        return -(-k // self.group_size)

    def words(self, k: int) -> int:
        """Return the number of uint32 words along an input dimension of `k` elements."""
        return self.groups(k) * (self.group_size // self.per_word)

    def to_json(self) -> dict[str, Any]:
        """Return the quantization as JSON values; one that is supported has no reason."""
        values = {**asdict(self), "scales": list(self.scales)}
        del values["unsupported"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Quantization":
        """Return the quantization that `to_json` describes."""
        return cls(**{**values, "scales": tuple(values["scales"])})
