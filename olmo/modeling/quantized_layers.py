"""Linear and embedding layers over plain, group-quantized, AWQ and float8 weights.

Every matrix product is one tensor expression with these stages, by which schedules know them:

- `activation`: the input rows in the accumulation dtype (for GPUs: the model dtype);
- `scale`: the scales of a quantized weight in the accumulation dtype;
- `dequantize`: the weight [out, in] in the same dtype: a cast, or `(q - max_int) * scale` as in
  `olmo.codecs.group_quantization.dequantize`, not rounded to the model dtype, so that a CPU need not
  compute it weight by weight (the annotations `storage.*` say how it is stored); of AWQ
  `(q - zero) * scale`, rounded as in `olmo.codecs.awq`; of float8 `q * scale`, not rounded;
- `NT_matmul`: `sum_k activation[i, k] * dequantize[j, k]` in the accumulation dtype;
- `matmul_cast`: the product in the output dtype.

Products accumulate in float32 whatever the model dtype is. Group quantization is MLC's: element i of
a uint32 word sits at bit i * bits, lowest first. Layout KN stores linears transposed.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-subclassing-any

from collections.abc import Callable, Mapping

import tvm
from tvm import relax, te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from olmo.codecs.float8_formats import FLOAT8
from olmo.modeling.lowering_target import is_gpu
from olmo.modeling.tensor_expression import tensor_expression
from olmo.quantization import Quantization
from olmo.weights import Role

ACCUMULATE = "float32"

# Element [row, column] of a weight, read from its stored tensors.
_Element = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


def linear(
    quantization: Quantization, role: Role, in_features: int, out_features: int
) -> "PlainLinear | GroupLinear | AwqLinear | Float8Linear":
    """Return the layer y = x Wᵀ for a weight [out_features, in_features] of this role."""
    quantized = quantization.quantize_final_fc if role == "final_fc" else True
    if quantization.kind == "group" and quantized:
        transposed = quantization.layout == "KN"
        return GroupLinear(quantization, in_features, out_features, transposed=transposed)
    if quantization.kind == "awq" and quantized:
        return AwqLinear(quantization, in_features, out_features)
    if quantization.kind == "fp8" and quantized:
        return Float8Linear(quantization, in_features, out_features)
    return PlainLinear(quantization, in_features, out_features)


def embedding(
    quantization: Quantization, vocab_size: int, hidden_size: int
) -> "PlainEmbedding | GroupEmbedding":
    """Return the embedding over a table [vocab_size, hidden_size]."""
    if quantization.kind == "group" and quantization.quantize_embedding:
        return GroupEmbedding(quantization, hidden_size, vocab_size)
    return PlainEmbedding(quantization, hidden_size, vocab_size)


class PlainLinear(nn.Module):
    """A linear layer whose `weight` is stored in the model dtype."""

    def __init__(self, quantization: Quantization, in_features: int, out_features: int) -> None:
        self.weight = nn.Parameter((out_features, in_features), quantization.model_dtype)
        self.in_features = in_features
        self.out_features = out_features
        self.dtype = quantization.model_dtype

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """Return x Wᵀ: [rows, in] to [rows, out], in `out_dtype` (default: that of x)."""
        dtype, shape = out_dtype or x.dtype, (self.out_features, self.in_features)

        def product(a: te.Tensor, w: te.Tensor) -> te.Tensor:
            return _matmul(a, _plain(w), shape, dtype)

        return tensor_expression(product, "linear", [x, self.weight])


class GroupLinear(nn.Module):
    """A linear layer whose weight is stored as packed integers `q_weight` with `q_scale`."""

    def __init__(
        self,
        quantization: Quantization,
        in_features: int,
        out_features: int,
        *,
        transposed: bool = False,
    ) -> None:
        q = quantization
        shapes = (out_features, q.words(in_features)), (out_features, q.groups(in_features))
        packed, scales = (shape[::-1] for shape in shapes) if transposed else shapes
        self.q_weight = nn.Parameter(packed, "uint32")
        self.q_scale = nn.Parameter(scales, q.model_dtype)
        self.quantization = quantization
        self.transposed = transposed
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """Return x Wᵀ: [rows, in] to [rows, out], in `out_dtype` (default: that of x)."""
        dtype, shape = out_dtype or x.dtype, (self.out_features, self.in_features)
        q, transposed = self.quantization, self.transposed

        def product(a: te.Tensor, words: te.Tensor, scales: te.Tensor) -> te.Tensor:
            weight = _group(words, scales, q, transposed=transposed)
            return _matmul(a, weight, shape, dtype, _storage(q, transposed=transposed))

        return tensor_expression(product, "quantized_linear", [x, self.q_weight, self.q_scale])


class AwqLinear(nn.Module):
    """A linear layer as AWQ stores it: `qweight`, `qzeros` and `scales`; see `olmo.codecs.awq`."""

    def __init__(self, quantization: Quantization, in_features: int, out_features: int) -> None:
        q = quantization
        groups, words = in_features // q.group_size, out_features // q.per_word
        self.qweight = nn.Parameter((in_features, words), "uint32")
        self.qzeros = nn.Parameter((groups, words), "uint32")
        self.scales = nn.Parameter((groups, out_features), q.model_dtype)
        self.quantization = quantization
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """Return x Wᵀ: [rows, in] to [rows, out], in `out_dtype` (default: that of x)."""
        dtype, shape = out_dtype or x.dtype, (self.out_features, self.in_features)
        q = self.quantization

        def product(
            a: te.Tensor, words: te.Tensor, zeros: te.Tensor, scales: te.Tensor
        ) -> te.Tensor:
            return _matmul(a, _awq(words, zeros, scales, q), shape, dtype)

        return tensor_expression(product, "awq_linear", [x, self.qweight, self.qzeros, self.scales])


class Float8Linear(nn.Module):
    """A linear layer whose `q_weight` is float8, with `q_scale` where the matrix has a scale.

    Activations are not rounded to float8, so `q_calibration_scale`, which would scale them, is a
    parameter without use.
    """

    def __init__(self, quantization: Quantization, in_features: int, out_features: int) -> None:
        q = quantization
        self.q_weight = nn.Parameter((out_features, in_features), q.weight_dtype)
        for name in q.scales:
            setattr(self, name, nn.Parameter((1,), "float32"))
        self.quantization = q
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor, out_dtype: str | None = None) -> Tensor:
        """Return x Wᵀ: [rows, in] to [rows, out], in `out_dtype` (default: that of x)."""
        dtype, shape = out_dtype or x.dtype, (self.out_features, self.in_features)
        q = self.quantization

        def product(a: te.Tensor, weight: te.Tensor, *scale: te.Tensor) -> te.Tensor:
            return _matmul(a, _float8(weight, q, *scale), shape, dtype)

        # As bytes: in a buffer of float8 TVM would convert, and lose subnormal numbers.
        view = relax.op.memory.view(self.q_weight._expr, dtype="uint8")  # noqa: SLF001 - the frontend has no public accessor
        weight = Tensor(_expr=relax.BlockBuilder.current().emit(view))
        scales = [self.q_scale] if q.scales else []
        return tensor_expression(product, "float8_linear", [x, weight, *scales])


class PlainEmbedding(PlainLinear):
    """An embedding table stored in the model dtype; `forward` is its use as the output layer."""

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the rows of the table: [n] int32 to [n, in] in the model dtype."""

        def rows(i: te.Tensor, w: te.Tensor) -> te.Tensor:
            return _take(i, _plain(w), self.in_features, self.dtype)

        return tensor_expression(rows, "embedding", [ids, self.weight])


class GroupEmbedding(GroupLinear):
    """A group-quantized embedding table; `forward` is its use as the output layer."""

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the dequantized rows of the table: [n] int32 to [n, in] in the model dtype."""

        def rows(i: te.Tensor, words: te.Tensor, scales: te.Tensor) -> te.Tensor:
            weight = _group(words, scales, self.quantization)
            return _take(i, weight, self.in_features, self.quantization.model_dtype)

        return tensor_expression(rows, "quantized_embedding", [ids, self.q_weight, self.q_scale])


def _storage(q: Quantization, *, transposed: bool) -> Mapping[str, int]:
    """Return what a schedule has to know to read the stored tensors itself."""
    return {
        "storage.bits": q.bits,
        "storage.group_size": q.group_size,
        "storage.max_int": q.max_int,
        "storage.transposed": int(transposed),
    }


def _plain(weight: te.Tensor) -> _Element:
    return lambda row, column: weight[row, column].astype(ACCUMULATE)


def _group(
    words: te.Tensor, scales: te.Tensor, q: Quantization, *, transposed: bool = False
) -> _Element:
    def at(tensor: te.Tensor, row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        return tensor[column, row] if transposed else tensor[row, column]

    mask = tirx.const((1 << q.bits) - 1, "uint32")
    scale = te.compute(scales.shape, lambda i, g: scales[i, g].astype(ACCUMULATE), name="scale")

    def element(row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        shift = (column % q.per_word * q.bits).astype("uint32")
        stored = tirx.bitwise_and(at(words, row, column // q.per_word) >> shift, mask)
        # Through int32: its conversion to float is one vector instruction, that of uint32 is not.
        centred = stored.astype("int32") - tirx.const(q.max_int, "int32")
        return centred.astype(ACCUMULATE) * at(scale, row, column // q.group_size)

    return element


def _awq(words: te.Tensor, zeros: te.Tensor, scales: te.Tensor, q: Quantization) -> _Element:
    mask = tirx.const((1 << q.bits) - 1, "uint32")
    scale = te.compute(scales.shape, lambda g, j: scales[g, j].astype(ACCUMULATE), name="scale")

    def value(tensor: te.Tensor, line: tirx.Expr, row: tirx.Expr) -> tirx.Expr:
        place = row % q.per_word
        shift = ((place % 2 * 4 + place // 2) * q.bits).astype("uint32")
        return tirx.bitwise_and(tensor[line, row // q.per_word] >> shift, mask).astype("int32")

    def element(row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        group = column // q.group_size
        difference = value(words, column, row) - value(zeros, group, row)
        exact = difference.astype(ACCUMULATE) * scale[group, row]
        return exact.astype(q.model_dtype).astype(ACCUMULATE)

    return element


def _float8(weight: te.Tensor, q: Quantization, scale: te.Tensor | None = None) -> _Element:
    """Read elements of float8 from their bytes."""
    form = FLOAT8[q.weight_dtype]
    factor = tirx.const(2.0 ** (15 - form.bias), ACCUMULATE)

    def element(row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        # By way of float16: its bits in place, subnormal numbers included, then the bias.
        bits = weight[row, column].astype("uint16")
        sign = (bits & tirx.const(0x80, "uint16")) << tirx.const(8, "uint16")
        rest = (bits & tirx.const(0x7F, "uint16")) << tirx.const(10 - form.mantissa, "uint16")
        exact = tirx.reinterpret("float16", sign | rest).astype(ACCUMULATE) * factor
        return exact if scale is None else exact * scale[0]

    return element


def _matmul(
    a: te.Tensor,
    weight: _Element,
    shape: tuple[int, int],
    out_dtype: str,
    storage: Mapping[str, int] | None = None,
) -> te.Tensor:
    rows, (n, depth) = a.shape[0], shape
    # What tensor cores multiply is as narrow as the model dtype; the sum is not.
    held = a.dtype if is_gpu(tvm.target.Target.current()) else ACCUMULATE
    activation = te.compute((rows, depth), lambda i, k: a[i, k].astype(held), name="activation")
    dequantized = te.compute(
        (n, depth), lambda j, k: weight(j, k).astype(held), name="dequantize", attrs=storage
    )
    k = te.reduce_axis((0, depth), name="k")
    product = te.compute(
        (rows, n),
        lambda i, j: te.sum(
            activation[i, k].astype(ACCUMULATE) * dequantized[j, k].astype(ACCUMULATE), axis=k
        ),
        name="NT_matmul",
    )
    if out_dtype == ACCUMULATE:
        return product
    return te.compute((rows, n), lambda i, j: product[i, j].astype(out_dtype), name="matmul_cast")


def _take(ids: te.Tensor, weight: _Element, width: int, dtype: str) -> te.Tensor:
    return te.compute(
        (ids.shape[0], width), lambda i, k: weight(ids[i], k).astype(dtype), name="embedding"
    )
