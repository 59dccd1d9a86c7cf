"""Products with 4-bit weights in integers: pairs of int16 multiplied and added in one instruction.

Of each group of 32 activations the largest magnitude becomes 32767; the others are rounded to that
scale, 15 bits where float16 has 11 and bfloat16 has 8. A group's products with the stored
integers are then summed exactly in int32, and the sums of groups, times both scales, in float32:

    y = sum_g scale_w[g] scale_x[g] (sum_k q[k] x[k] - max_int sum_k x[k])

A word holds 8 weights. Masking it by 0x000F000F after a shift by 4p leaves the pair of its
elements p and p + 4; activations are kept in that order, in blocks of as many words as a vector
has: int32 [block, p, word], each the pair (x[p], x[p + 4]) of its word.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.target.codegen import target_has_features
from tvm.tirx.script import builder as T  # noqa: N812 - the name TVM's users know

from olmo.cpu_product import Finish, Product
from olmo.cpu_vectors import (
    Expr,
    add,
    cast,
    f32,
    fold,
    load,
    load_f32,
    pick,
    prefetch,
    splat,
    store,
    transposed_load,
)

GROUP = 32  # weights with one scale
WORDS = 4  # of a group
PAIRS = 4  # of a word
CHUNK = 8  # groups whose scales are read at once
AHEAD = 256  # words from those in use to those the cache is told to fetch
LINE = 16  # words of a line of the cache
LIMIT = 32767  # the largest activation of a group
ROWS = 4  # rows in registers at once
COLUMNS = 2  # vectors of columns in registers at once
FEW = 4  # from this many rows on, weights are unpacked once for all of them

# Instructions that multiply pairs of int16 and add both products: the target's feature and triple
# that have them, their int32 lanes, LLVM's name.
_INSTRUCTIONS = (
    ("x86_64", "avx2", 8, "llvm.x86.avx2.pmadd.wd"),
    ("x86_64", "sse2", 4, "llvm.x86.sse2.pmadd.wd"),
    ("wasm", "simd128", 4, "llvm.wasm.dot"),
)


def instructions(target: Any) -> Mapping[int, str]:
    """Return the instructions for pairs that the target has, by their int32 lanes."""
    triple = str(target.attrs.get("mtriple", ""))
    return {
        lanes: name
        for machine, feature, lanes, name in _INSTRUCTIONS
        if triple.startswith(machine) and target_has_features(feature, target)
    }


class IntegerProduct:
    """The product of rows of activations and an int4 weight whose groups lie along its rows."""

    def __init__(self, product: Product, instructions: Mapping[int, str]) -> None:
        self.p = product
        self.instructions = instructions
        self.lanes = max(instructions)
        self.groups = -(-product.depth // GROUP)
        self.blocks = -(-self.groups * WORDS // self.lanes)
        # Whole tiles of rows, where there may be more than one: the rest of the last one is 0.
        self.rows = 1 if product.one_row else tirx.ceildiv(product.rows, ROWS) * ROWS

    @classmethod
    def of(cls, product: Product, target: Any) -> "IntegerProduct | None":
        """Return the kernel for this product on this target, None where there is none."""
        storage, found = product.storage, instructions(target)
        if not found or storage.bits != 4 or storage.transposed:
            return None
        if product.scales.dtype not in {"float16", "bfloat16"}:
            return None  # float32 has more bits than the activations would keep
        if not product.one_row and product.tile % (COLUMNS * max(found)):
            return None
        return cls(product, found)

    def emit(self, finish: Finish) -> None:
        """Write the stages: the rows in int16, then the product, tile by tile."""
        p = self.p
        self.pairs = T.sblock_alloc_buffer((self.rows, self.blocks * self.lanes * PAIRS), "int32")
        self.scale = T.sblock_alloc_buffer((self.rows, self.groups), "float32")
        self.zero = T.sblock_alloc_buffer((self.rows, self.groups), "int32")
        with (T.serial if p.one_row else T.parallel)(self.rows) as i, T.sblock("activation_int16"):
            row = T.axis.spatial(self.rows, i)
            T.reads()
            T.writes()
            self._quantize(row)
        with T.parallel(p.columns // p.tile) as t, T.sblock("product"):
            column = T.axis.spatial(p.columns // p.tile, t) * p.tile
            T.reads()
            T.writes()
            if p.one_row:
                self._row(0, column)
            else:
                with T.If(p.rows < FEW):
                    with T.Then(), T.serial(p.rows) as i:
                        self._row(i, column)
                    with T.Else():
                        self._rows(column)
            finish(column)

    def _quantize(self, row: Expr) -> None:
        whole, rest = divmod(self.p.depth, GROUP)
        with T.serial(whole) as g:
            self._quantize_group(row, g, GROUP)
        if rest:
            self._quantize_group(row, whole, rest)

    def _quantize_group(self, row: Expr, g: Expr, count: int) -> None:
        p = self.p
        x = T.sblock_alloc_buffer((GROUP,), "float32")
        if count < GROUP or not p.one_row:
            store(x, (0,), splat(f32(0), GROUP), GROUP)
        lanes = count & -count
        with T.If(row < p.rows), T.Then(), T.serial(count // lanes) as i:
            value = load_f32(p.activation, (row, g * GROUP + i * lanes), lanes)
            store(x, (i * lanes,), value, lanes)
        whole = load(x, (0,), GROUP)
        magnitude = T.max(whole, splat(f32(0), GROUP) - whole)
        largest = T.Bind(fold(magnitude, GROUP, "float32", T.max))
        T.buffer_store(self.scale, largest * f32(1 / LIMIT), [row, g])
        inverse = T.Bind(tirx.Select(largest > f32(0), f32(LIMIT) / largest, f32(0)))
        rounded = T.nearbyint(whole * splat(inverse, GROUP))
        q = T.Bind(cast("int32", rounded, GROUP))
        T.buffer_store(self.zero, -p.storage.max_int * fold(q, GROUP, "int32", add), [row, g])
        narrow = T.Bind(cast("int16", q, GROUP))
        first = self._at(g * WORDS)
        for pair in range(PAIRS):
            order = [8 * word + pair + high for word in range(WORDS) for high in (0, 4)]
            value = T.reinterpret(f"int32x{WORDS}", pick(narrow, order))
            store(self.pairs, (row, first + pair * self.lanes), value, WORDS)

    def _row(self, row: Expr, column: Expr) -> None:
        """Multiply one row with the columns of a tile, which are read from memory in order."""
        with T.serial(self.p.tile) as j:
            self._dot_product(row, column + j)

    def _dot_product(self, row: Expr, column: Expr) -> None:
        p, lanes = self.p, self.lanes
        sums = T.sblock_alloc_buffer((CHUNK,), "float32")
        store(sums, (0,), splat(f32(0), CHUNK), CHUNK)
        with T.serial(self.groups // CHUNK) as chunk:
            first, word = chunk * CHUNK, chunk * (CHUNK * WORDS)
            for i in range(0, CHUNK * WORDS, LINE):
                prefetch(p.words, (column, word + AHEAD + i))
            prefetch(p.scales, (column, first + AHEAD // WORDS))
            scale = load_f32(p.scales, (column, first), CHUNK)
            scale = T.Bind(scale * load(self.scale, (row, first), CHUNK))
            zero = cast("float32", load(self.zero, (row, first), CHUNK), CHUNK)
            store(sums, (0,), load(sums, (0,), CHUNK) + scale * zero, CHUNK)
            for vector in range(CHUNK * WORDS // lanes):
                total = self._word_products(row, column, word + vector * lanes, lanes)
                groups = [(vector * lanes + i) // WORDS for i in range(lanes)]
                term = cast("float32", total, lanes) * pick(scale, groups)
                store(sums, (0,), load(sums, (0,), lanes) + term, lanes)
        for g in range(self.groups // CHUNK * CHUNK, self.groups):
            total = self._word_products(row, column, g * WORDS, WORDS)
            scale = cast("float32", p.scales[column, g], 1) * self.scale[row, g]
            term = cast("float32", total, WORDS) * splat(scale, WORDS)
            store(sums, (0,), load(sums, (0,), WORDS) + term, WORDS)
            zero = cast("float32", self.zero[row, g], 1)
            store(sums, (0,), sums[0] + scale * zero, 1)
        total = fold(load(sums, (0,), CHUNK), CHUNK, "float32", add)
        store(p.product, (row, column), total, 1)

    def _word_products(self, row: Expr, column: Expr, word: Expr, lanes: int) -> Expr:
        """Return in each lane the sum of the 8 products of one word."""
        words = T.Bind(load(self.p.words, (column, word), lanes))
        first = self._at(word)
        parts = []
        for i in range(PAIRS):
            x = load(self.pairs, (row, first + i * self.lanes), lanes)
            parts.append(self._madd(_pair(words, i, lanes), x, lanes))
        return (parts[0] + parts[1]) + (parts[2] + parts[3])

    def _at(self, word: Expr) -> Expr:
        """Return where the first pair of a word's activations is."""
        return word // self.lanes * (self.lanes * PAIRS) + word % self.lanes

    def _madd(self, a: Expr, b: Expr, lanes: int) -> Expr:
        name = self.instructions[lanes]
        a, b = (T.reinterpret(f"int16x{2 * lanes}", x) for x in (a, b))
        return T.call_llvm_pure_intrin(f"int32x{lanes}", name, a, b)

    def _rows(self, column: Expr) -> None:
        """Multiply tiles of rows: a chunk of the weight is unpacked, then used for all of them."""
        p = self.p
        sums = T.sblock_alloc_buffer((self.rows, p.tile), "float32")
        with T.serial(self.rows) as i, T.vectorized(p.tile) as j:
            T.buffer_store(sums, f32(0), [i, j])
        whole, rest = divmod(self.groups, CHUNK)
        with T.serial(whole) as chunk:
            self._chunk(sums, column, chunk * CHUNK, CHUNK)
        if rest:
            self._chunk(sums, column, whole * CHUNK, rest)
        with T.serial(p.rows) as i, T.vectorized(p.tile) as j:
            T.buffer_store(p.product, sums[i, j], [i, column + j])

    def _chunk(self, sums: Any, column: Expr, first: Expr, count: int) -> None:
        """Add the products of `count` groups, from group `first` on."""
        p, lanes = self.p, self.lanes
        weight = T.sblock_alloc_buffer((count, WORDS * PAIRS, p.tile), "int32")
        scale = T.sblock_alloc_buffer((count, p.tile), "float32")
        with T.serial(p.tile // lanes) as v, T.serial(count) as g:
            at = (column + v * lanes, first + g)
            scales = transposed_load(p.scales, *at, lanes, p.scales.dtype)
            value = cast("float32", load(scales, (0,), lanes), lanes)
            store(scale, (g, v * lanes), value, lanes)
            for word in range(WORDS):
                at = (column + v * lanes, (first + g) * WORDS + word)
                words = transposed_load(p.words, *at, lanes, "uint32")
                for i in range(PAIRS):
                    value = _pair(load(words, (0,), lanes), i, lanes)
                    store(weight, (g, word * PAIRS + i, v * lanes), value, lanes)
        with T.serial(self.rows // ROWS) as r, T.serial(p.tile // (COLUMNS * lanes)) as c:
            self._block(sums, weight, scale, r * ROWS, c * (COLUMNS * lanes), first, count)

    def _block(
        self, sums: Any, weight: Any, scale: Any, row: Expr, column: Expr, first: Expr, count: int
    ) -> None:
        """Add the products of some rows and columns, all in registers, to `sums`."""
        lanes = self.lanes
        tile = [(i, v) for i in range(ROWS) for v in range(COLUMNS)]
        total = T.sblock_alloc_buffer((ROWS, COLUMNS * lanes), "float32")
        for i, v in tile:
            value = load(sums, (row + i, column + v * lanes), lanes)
            store(total, (i, v * lanes), value, lanes)
        exact = T.sblock_alloc_buffer((ROWS, COLUMNS * lanes), "int32")
        with T.serial(count) as g:
            for i, v in tile:
                zero = splat(self.zero[row + i, first + g], lanes)
                store(exact, (i, v * lanes), zero, lanes)
            before = self._at((first + g) * WORDS)
            # A loop that stays one: of a longer straight line LLVM would keep too much in registers.
            with T.serial(WORDS) as word:
                for pair in range(PAIRS):
                    k = word * PAIRS + pair
                    w = [
                        T.Bind(load(weight, (g, k, column + v * lanes), lanes))
                        for v in range(COLUMNS)
                    ]
                    for i in range(ROWS):
                        at = before + pair * lanes + word
                        x = T.Bind(splat(self.pairs[row + i, at], lanes))
                        for v in range(COLUMNS):
                            value = load(exact, (i, v * lanes), lanes) + self._madd(w[v], x, lanes)
                            store(exact, (i, v * lanes), value, lanes)
            for i, v in tile:
                both = load(scale, (g, column + v * lanes), lanes) * splat(
                    self.scale[row + i, first + g], lanes
                )
                value = cast("float32", load(exact, (i, v * lanes), lanes), lanes) * both
                value = load(total, (i, v * lanes), lanes) + value
                store(total, (i, v * lanes), value, lanes)
        for i, v in tile:
            value = load(total, (i, v * lanes), lanes)
            store(sums, (row + i, column + v * lanes), value, lanes)


def _pair(words: Expr, i: int, lanes: int) -> Expr:
    """Return elements i and i + 4 of each word, in the halves of an int32."""
    shifted = words >> splat(tirx.const(4 * i, "uint32"), lanes)
    mask = splat(tirx.const(0x000F000F, "uint32"), lanes)
    return T.reinterpret(f"int32x{lanes}", shifted & mask)
