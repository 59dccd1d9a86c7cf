"""The ways a weight is stored: what the conversion kernels compute, as data.

`olmo.codecs.numpy_codec` defines each in numpy; `olmo.codecs.codec_kernels` makes kernels of them, which give the
same bits. Imports neither numpy nor tvm, nor the table of quantizations, so
that a new row of it leaves compiled kernels as they are.
"""

from dataclasses import dataclass

Dtype = str  # float16, bfloat16 or float32; of what is stored, also a float8

# What a checkpoint may hold beside float32.
NARROW: tuple[Dtype, ...] = ("float16", "bfloat16")

# One vector of a kernel; sums of errors have as many partial sums.
LANES = 8
# Elements whose errors are added up in float32 before they go into float64.
CAST_CHUNK = 32


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to store the rows of a matrix [N, K].

    Values are rounded to `dtype`. With `bits`, they are quantized in groups of `group_size` along K
    with one scale each; else they are stored themselves. Scales, or values, have `dtype` in memory
    and `stored` in the file, which differ where float32 is encoded as bfloat16. `exact_divisor`
    divides by scales that are not rounded. Without `bits`, `scale` is the dtype in which the file
    keeps the one scale of the whole matrix, empty if there is none: values are divided by it.
    """

    dtype: Dtype
    stored: Dtype
    bits: int = 0
    group_size: int = CAST_CHUNK
    exact_divisor: bool = False
    scale: Dtype = ""

    @property
    def max_int(self) -> int:
        """The quantized value that stands for 0."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def per_word(self) -> int:
        """Elements in one uint32 word."""
        return 32 // self.bits

    @property
    def words_per_group(self) -> int:
        """Words of one group."""
        return self.group_size // self.per_word

    def groups(self, k: int) -> int:
        """Return the number of groups of a row of `k` elements."""
        return -(-k // self.group_size)

    @property
    def name(self) -> str:
        """A name, that of the kernel."""
        kind = f"group{self.bits}" if self.bits else "cast"
        stored = "" if self.stored == self.dtype else f"_as_{self.stored}"
        scale = f"_by_{self.scale}" if self.scale else ""
        return f"{kind}_{self.dtype}{stored}{scale}{'_exact' if self.exact_divisor else ''}"


CODECS = (
    Codec("float16", "float16"),
    Codec("bfloat16", "bfloat16"),
    Codec("float32", "bfloat16"),
    Codec("float32", "float32"),
    Codec("float16", "float16", 3, 40),
    Codec("float16", "float16", 4, 32),
    Codec("bfloat16", "bfloat16", 4, 32),
    Codec("bfloat16", "bfloat16", 4, 32, exact_divisor=True),
    Codec("float32", "bfloat16", 4, 32),
    Codec("float32", "float32", 4, 32),
    Codec("float16", "float8_e5m2"),
    Codec("float16", "float8_e4m3fn", scale="bfloat16"),
    Codec("float16", "float8_e4m3fn", scale="float32"),
)


def widening(dtype: Dtype) -> str:
    """Return the name of the kernel that widens a dtype to float32."""
    return f"widen_{dtype}"


def file_name(host: str) -> str:
    """Return the name of the library of kernels for a kind of host."""
    return f"kernels-{host}.so"
