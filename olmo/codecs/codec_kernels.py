"""The kernels that convert weights, as TIR.

The function of a codec reads rows of a float32 matrix and writes them as they are stored, with the
errors of each row. Bit for bit what `olmo.codecs.numpy_codec` computes: operations are rounded one by one
in the same order, and a target must not fuse a product with a sum. It has the C signature

    void (const float *source, void *out, D *scales, float *scratch, double *sums, float *largest,
          int32_t *magnitudes, int64_t rows, int64_t columns)

out [rows, columns] in the stored dtype, or [rows, words] uint32; scales [rows, groups] as stored
and scratch [2 * groups] for groups only, or scales [1] float32, which is read, for a codec with one
scale of the whole matrix; per row, sums is the sum of the errors, largest the
largest of them, and magnitudes the bits of the largest magnitude, which tell a NaN or an infinity.
Other functions widen what a checkpoint may hold:

    void (const uint16_t *source, float *out, int64_t count)
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T  # noqa: N812  as all of TVM abbreviates it

from olmo.codecs.codec import CODECS, LANES, NARROW, Codec, Dtype, widening
from olmo.codecs.float_kernels import encode, in_memory, round_to, widen

Expression = Any  # tvm's

# Adding this to a float32 from 0 to 2^22 leaves the nearest integer, ties to even, in the low bits.
_TO_INTEGER = 1.5 * 2**23
_MAGNITUDE = 0x7FFFFFFF


def kernels() -> tvm.IRModule:
    """Return all functions, by the names that `olmo.codecs.codec` gives them."""
    encoding = {codec.name: _function(codec.name, _encoding, codec) for codec in CODECS}
    widened = {widening(d): _function(widening(d), _widening, d) for d in NARROW}
    return tvm.IRModule({**encoding, **widened})


def _function(name: str, body: Callable[[Any], None], what: Codec | Dtype) -> Any:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        # TVM's own convention wraps arguments; this one keeps the C signature.
        T.func_attr({"global_symbol": name, "calling_conv": 1, "tirx.noalias": True})
        body(what)
    return builder.get()


def _widening(dtype: Dtype) -> None:
    source, out = T.arg("source", T.ptr(in_memory(dtype))), T.arg("out", T.ptr("float32"))
    count = T.arg("count", T.int64())
    values = T.decl_buffer((count,), in_memory(dtype), data=source)
    wide = T.decl_buffer((count,), "float32", data=out)
    full = T.bind(count // _long(LANES))
    with T.serial(_long(0), full) as i:
        at = _ramp(i * _long(LANES))
        T.buffer_store(wide, widen(values[at], dtype, LANES), [at])
    with T.serial(full * _long(LANES), count) as i:
        T.buffer_store(wide, widen(values[i], dtype, 1), [i])


def _encoding(codec: Codec) -> None:
    stored = in_memory(codec.stored)
    out_dtype = "uint32" if codec.bits else stored
    dtypes = {
        "source": "float32",
        "out": out_dtype,
        "scales": "float32" if codec.scale else stored,
        "scratch": "float32",
        "sums": "float64",
        "largest": "float32",
        "magnitudes": "int32",
    }
    pointers = {name: T.arg(name, T.ptr(dtype)) for name, dtype in dtypes.items()}
    rows, columns = T.arg("rows", T.int64()), T.arg("columns", T.int64())

    def buffer(name: str, extent: Expression) -> Expression:
        return T.decl_buffer((extent,), dtypes[name], data=pointers[name])

    row = _Row(codec, columns, buffer("source", rows * columns))
    sums, largest = buffer("sums", rows), buffer("largest", rows)
    magnitudes = buffer("magnitudes", rows)
    if codec.bits:
        out = buffer("out", rows * row.groups * _long(codec.words_per_group))
        scales = buffer("scales", rows * row.groups)
        scratch = buffer("scratch", row.groups * _long(2))
    else:
        out = buffer("out", rows * columns)
        scale = T.bind(buffer("scales", _long(1))[_long(0)]) if codec.scale else None
    with T.serial(_long(0), rows) as r:
        row.begin(r)
        if codec.bits:
            _quantized_row(row, r, out, scales, scratch)
        else:
            _cast_row(row, r, out, scale)
        T.buffer_store(sums, row.sum(), [r])
        T.buffer_store(largest, row.largest(), [r])
        T.buffer_store(magnitudes, row.magnitude(), [r])


class _Row:
    """A row in groups of elements, and what is gathered along it, in one vector each."""

    def __init__(self, codec: Codec, columns: Expression, values: Expression) -> None:
        size = _long(codec.group_size)
        self.codec = codec
        self.full, self.tail = T.bind(columns // size), T.bind(columns % size)
        self.groups = T.bind((columns + size - _long(1)) // size)
        self._columns = columns
        self._values = values
        self._rest = T.alloc_buffer((codec.group_size,), "float32", scope="local")
        self._sums = T.alloc_buffer((LANES,), "float64", scope="local")
        self._largest = T.alloc_buffer((LANES,), "int32", scope="local")
        self._magnitude = T.alloc_buffer((LANES,), "int32", scope="local")

    def begin(self, r: Expression) -> None:
        """Begin row r: keep its last, shorter group with zeros after it."""
        T.buffer_store(self._sums, T.Broadcast(T.FloatImm("float64", 0.0), LANES), [_all()])
        T.buffer_store(self._largest, _ints(0), [_all()])
        T.buffer_store(self._magnitude, _ints(0), [_all()])
        with T.If(self.tail > _long(0)), T.Then():
            with T.serial(_long(0), _long(self.codec.group_size)) as i:
                T.buffer_store(self._rest, _float(0.0), [i])
            with T.serial(_long(0), self.tail) as i:
                value = self._values[self.start(r, self.full) + i]
                T.buffer_store(self._rest, value, [i])

    def start(self, r: Expression, g: Expression) -> Expression:
        """Return the position of the first element of a group."""
        return r * self._columns + g * _long(self.codec.group_size)

    def each_group(self, make: Callable[..., None]) -> None:
        """Emit `make(group, last)` for the whole groups and for a last, shorter one."""
        with T.serial(_long(0), self.full) as g:
            make(g, last=False)
        with T.If(self.tail > _long(0)), T.Then():
            make(self.full, last=True)

    def load(self, r: Expression, g: Expression, *, last: bool) -> list[Expression]:
        """Return the elements of a group."""
        starts = range(0, self.codec.group_size, LANES)
        if last:
            return [T.bind(self._rest[_ramp(_long(i))]) for i in starts]
        base = T.bind(self.start(r, g))
        return [T.bind(self._values[_ramp(base + _long(i))]) for i in starts]

    def see(self, xs: Sequence[Expression]) -> Expression:
        """Note the magnitudes of xs; return the bits of the largest. NaN is above infinity."""
        top = T.bind(_tree(T.max, [_magnitude_bits(x) for x in xs]))
        T.buffer_store(self._magnitude, T.max(self._magnitude[_all()], top), [_all()])
        return T.bind(_largest_lane(top))

    def add(self, stored: Sequence[Expression], xs: Sequence[Expression]) -> None:
        """Add the errors of one group: lane by lane in float32, the sum of these in float64."""
        errors = [T.bind(_magnitude_bits(s - x)) for s, x in zip(stored, xs, strict=True)]
        top = _tree(T.max, errors)
        T.buffer_store(self._largest, T.max(self._largest[_all()], top), [_all()])
        total = _float_of(errors[0])
        for error in errors[1:]:
            total = total + _float_of(error)
        total = T.cast(total, f"float64x{LANES}")
        T.buffer_store(self._sums, self._sums[_all()] + total, [_all()])

    def sum(self) -> Expression:
        """Return the sum of the row, neighbouring lanes first."""
        return _tree(lambda a, b: a + b, [self._sums[_long(i)] for i in range(LANES)])

    def largest(self) -> Expression:
        """Return the largest error of the row."""
        return T.reinterpret("float32", _largest_lane(self._largest[_all()]))

    def magnitude(self) -> Expression:
        """Return the bits of the largest magnitude of the row."""
        return _largest_lane(self._magnitude[_all()])


def _cast_row(row: _Row, r: Expression, out: Expression, scale: Expression | None) -> None:
    codec = row.codec
    kept = None if scale is None else T.bind(round_to(scale, codec.scale, 1))
    rest = T.alloc_buffer((codec.group_size,), in_memory(codec.stored), scope="local")

    def cast(g: Expression, *, last: bool) -> None:
        xs = row.load(r, g, last=last)
        row.see(xs)
        scaled = [_over(round_to(x, codec.dtype, LANES), scale) for x in xs]
        encoded = [T.bind(encode(x, codec, LANES)) for x in scaled]
        row.add([_times(widen(e, codec.stored, LANES), kept) for e in encoded], xs)
        start = row.start(r, g)
        for i, e in enumerate(encoded):
            at = _long(i * LANES)
            T.buffer_store(rest if last else out, e, [_ramp(at if last else start + at)])
        if last:
            with T.serial(_long(0), row.tail) as i:
                T.buffer_store(out, rest[i], [start + i])

    row.each_group(cast)


def _over(x: Expression, scale: Expression | None) -> Expression:
    return x if scale is None else T.bind(x / T.Broadcast(scale, LANES))


def _times(x: Expression, scale: Expression | None) -> Expression:
    return x if scale is None else T.bind(x * T.Broadcast(scale, LANES))


def _quantized_row(
    row: _Row, r: Expression, out: Expression, scales: Expression, scratch: Expression
) -> None:
    """Find all scales of a row first: a processor then works on several groups at a time."""
    codec = row.codec

    def find_scale(g: Expression, *, last: bool) -> None:
        divisor, rounded = _scale(row.see(row.load(r, g, last=last)), codec)
        T.buffer_store(scratch, divisor, [g])
        T.buffer_store(scratch, round_to(rounded, codec.stored, 1), [row.groups + g])
        T.buffer_store(scales, encode(rounded, codec, 1), [r * row.groups + g])

    def quantize(g: Expression, *, last: bool) -> None:
        xs = row.load(r, g, last=last)
        divisor, by = T.bind(scratch[g]), T.bind(scratch[row.groups + g])
        fields = [_quantize(x, divisor, codec) for x in xs]
        row.add([_dequantize(field, by, codec) for field in fields], xs)
        if last:
            fields = [_valid(f, i * LANES, row.tail) for i, f in enumerate(fields)]
        at = (r * row.groups + g) * _long(codec.words_per_group)
        T.buffer_store(out, _pack(fields, codec), [_ramp(at, codec.words_per_group)])

    row.each_group(find_scale)
    row.each_group(quantize)


def _scale(top: Expression, codec: Codec) -> tuple[Expression, Expression]:
    """Return divisor and rounded scale of a group whose largest magnitude has the bits `top`."""
    largest = round_to(T.reinterpret("float32", top), codec.dtype, 1)
    exact = T.bind(largest / _float(float(codec.max_int)))
    rounded = T.bind(round_to(exact, codec.dtype, 1))
    return (exact if codec.exact_divisor else rounded), rounded


def _quantize(x: Expression, divisor: Expression, codec: Codec) -> Expression:
    """Return the quantized values of x as int32."""
    step: Dtype = "float16" if codec.dtype == "float16" else "float32"
    ratio = round_to(round_to(x, codec.dtype, LANES) / T.Broadcast(divisor, LANES), step, LANES)
    x = T.bind(round_to(ratio + _floats(codec.max_int), step, LANES))
    x = T.bind(T.Select(x > _floats(0), x, _floats(0)))  # NaN becomes 0
    x = T.bind(T.Select(x < _floats(2 * codec.max_int), x, _floats(2 * codec.max_int)))
    bits = T.reinterpret(f"int32x{LANES}", x + _floats(_TO_INTEGER))
    return T.bind(bits & _ints(2**codec.bits - 1))


def _dequantize(field: Expression, scale: Expression, codec: Codec) -> Expression:
    value = T.cast(field - _ints(codec.max_int), f"float32x{LANES}")
    return round_to(value * T.Broadcast(scale, LANES), codec.dtype, LANES)


def _valid(field: Expression, start: int, tail: Expression) -> Expression:
    """Return the fields of a last group with 0 where the row has ended."""
    lane = T.Ramp(T.IntImm("int32", start), T.IntImm("int32", 1), LANES)
    return T.bind(T.Select(lane < T.Broadcast(T.cast(tail, "int32"), LANES), field, _ints(0)))


def _pack(fields: Sequence[Expression], codec: Codec) -> Expression:
    """Pack the fields of one group into its four words, the lowest bits first."""
    shifted = []
    for start, field in zip(range(0, codec.group_size, LANES), fields, strict=True):
        places = [(start + lane) % codec.per_word * codec.bits for lane in range(LANES)]
        shifts = T.Shuffle([T.IntImm("int32", place) for place in places], list(range(LANES)))
        shifted.append(T.bind(field << shifts))
    words = [_neighbours(shifted, word * codec.per_word) for word in range(4)]
    joined = _joined(_joined(words[0], words[1]), _joined(words[2], words[3]))
    packed = T.Shuffle([joined], [0, 1, 2, 3]) | T.Shuffle([joined], [4, 5, 6, 7])
    for i in range(LANES, codec.per_word):
        elements = [divmod(word * codec.per_word + i, LANES) for word in range(4)]
        lanes = [T.Shuffle([shifted[vector]], [lane]) for vector, lane in elements]
        packed = packed | T.Shuffle(lanes, [0, 1, 2, 3])
    return T.reinterpret("uint32x4", packed)


def _neighbours(vectors: Sequence[Expression], start: int) -> Expression:
    """Return neighbouring elements of several vectors as one vector."""
    first, offset = divmod(start, LANES)
    if offset == 0:
        return vectors[first]
    return T.bind(T.Shuffle(vectors[first : first + 2], list(range(offset, offset + LANES))))


def _joined(first: Expression, second: Expression) -> Expression:
    """Join neighbours of two vectors; each half of the result is of the same half of both."""
    even = T.Shuffle([first, second], [0, 2, 8, 10, 4, 6, 12, 14])
    odd = T.Shuffle([first, second], [1, 3, 9, 11, 5, 7, 13, 15])
    return T.bind(even | odd)


def _magnitude_bits(x: Expression) -> Expression:
    return T.reinterpret(f"int32x{LANES}", x) & _ints(_MAGNITUDE)


def _float_of(bits: Expression) -> Expression:
    return T.reinterpret(f"float32x{LANES}", bits)


def _largest_lane(x: Expression) -> Expression:
    return T.call_llvm_pure_intrin("int32", f"llvm.vector.reduce.smax.v{LANES}i32", x)


def _tree(join: Callable[[Any, Any], Any], parts: Sequence[Expression]) -> Expression:
    """Join neighbours until one is left."""
    while len(parts) > 1:
        pairs = [join(*parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
        parts = [*pairs, parts[-1]] if len(parts) % 2 else pairs
    return parts[0]


def _long(value: int) -> Expression:
    return T.IntImm("int64", value)


def _float(value: float) -> Expression:
    return T.FloatImm("float32", value)


def _floats(value: float) -> Expression:
    return T.Broadcast(_float(float(value)), LANES)


def _ints(value: int) -> Expression:
    return T.Broadcast(T.IntImm("int32", value), LANES)


def _ramp(start: Expression, lanes: int = LANES) -> Expression:
    return T.Ramp(start, _long(1), lanes)


def _all() -> Expression:
    return _ramp(_long(0))
