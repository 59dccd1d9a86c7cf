"""Products with group-quantized weights on CPUs: words are unpacked where they are used.

Decode is bound by memory, so a weight has to cost little more than its bytes. Layout NK, one row:
a vector holds as many words as it has lanes, and masking it leaves one element of each word, still
shifted left by its place. That integer, converted to float32, is exact, and so is the activation
it is multiplied with, which was divided by the same power of two beforehand. Of a group, the sum of
products with the stored integers and the sum of activations are all that is needed:

    y = sum_g scale[g] (sum_k q[k] x[k] - max_int sum_k x[k])

Layout KN, one row: a vector holds words of neighbouring columns, and there is nothing to add up in
the end. With more rows, a chunk of the weight is unpacked to float32 in the first-level cache, and
multiplied with tiles of rows held in registers (Goto and van de Geijn, doi:10.1145/1356052.1356053).

All sums are float32, in an order that depends on the shapes and the target alone.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812 - the name TVM's users know

from olmo.operators.cpu_product import Finish, Product, divisor
from olmo.operators.cpu_vectors import (
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

CHUNK = 8  # groups whose scales are read at once
AHEAD = 256  # words from those in use to those the cache is told to fetch
LINE = 16  # words of a line of the cache
ROWS = 6  # rows in registers at once
COLUMNS = 2  # vectors of columns in registers at once
CHAINS = 2  # sums of one vector of words: an addition seldom waits for the one before
FEW = 4  # from this many rows on, weights are unpacked once for all of them


class GroupProduct:
    """The product of rows of activations and a weight of groups of packed integers."""

    def __init__(self, product: Product, lanes: int) -> None:
        s = product.storage
        self.p = product
        self.bits = s.bits
        self.max_int = s.max_int
        self.lanes = lanes
        self.per_word = 32 // s.bits
        self.group = s.group_size
        self.words = s.group_size // self.per_word  # of a group
        self.groups = -(-product.depth // s.group_size)
        self.blocks = -(-self.groups * self.words // lanes)

    @classmethod
    def of(cls, product: Product, lanes: int) -> "GroupProduct | None":
        """Return the kernel for this product, None where its shape is none that it divides."""
        made = cls(product, min(lanes, CHUNK))
        whole = COLUMNS * made.lanes
        if (made.p.storage.transposed or not product.one_row) and product.tile % whole:
            return None
        return made

    def emit(self, finish: Finish) -> None:
        """Write the stages: activations in the order of the words, then the product."""
        p = self.p
        rows = 1 if p.one_row else FEW - 1
        self.activation = p.activation
        if not p.one_row and p.activation.dtype != "float32":
            self._widen()
        self.x = T.sblock_alloc_buffer((rows, self.blocks * self.lanes * self.per_word), "float32")
        self.zero = T.sblock_alloc_buffer((rows, self.groups), "float32")
        with T.sblock("activation"):
            T.reads()
            T.writes()
            if p.one_row:
                self._prepare(0)
            else:
                with T.If(p.rows < FEW), T.Then(), T.serial(p.rows) as i:
                    self._prepare(i)
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

    def _widen(self) -> None:
        """Convert the activations to float32, once for all tiles of columns."""
        p = self.p
        self.activation = T.sblock_alloc_buffer((p.rows, p.depth), "float32")
        width = divisor(p.depth, self.lanes)
        with T.parallel(p.rows) as i, T.sblock("activation_float32"):
            row = T.axis.spatial(p.rows, i)
            T.reads()
            T.writes()
            with T.serial(p.depth // width) as j:
                value = load_f32(p.activation, (row, j * width), width)
                store(self.activation, (row, j * width), value, width)

    def _prepare(self, row: Expr) -> None:
        """Write one row's activations in the order they are used, and the sums of its groups."""
        p, lanes = self.p, self.lanes
        guarded = p.depth % (lanes * self.per_word) != 0

        def element(k: Expr) -> Expr:
            value = T.Cast("float32", p.activation[row, k])
            return T.if_then_else(k < p.depth, value, f32(0)) if guarded else value

        with T.serial(self.blocks) as block:
            for place in range(self.per_word):
                with T.vectorized(lanes) as lane:
                    k = (block * lanes + lane) * self.per_word + place
                    at = (block * self.per_word + place) * lanes + lane
                    factor = f32(2.0 ** -self._shift(place))
                    T.buffer_store(self.x, element(k) * factor, [row, at])
        whole, rest = divmod(p.depth, self.group)
        width = divisor(self.group, 8)
        with T.serial(whole) as g:
            sums = T.sblock_alloc_buffer((width,), "float32")
            store(sums, (0,), splat(f32(0), width), width)
            for i in range(0, self.group, width):
                part = load_f32(p.activation, (row, g * self.group + i), width)
                store(sums, (0,), load(sums, (0,), width) + part, width)
            total = fold(load(sums, (0,), width), width, "float32", add)
            store(self.zero, (row, g), total * f32(-self.max_int), 1)
        if rest:
            store(self.zero, (row, whole), f32(0), 1)
            with T.serial(rest) as i:
                part = T.Cast("float32", p.activation[row, whole * self.group + i])
                total = self.zero[row, whole] - part * f32(self.max_int)
                store(self.zero, (row, whole), total, 1)

    def _row(self, row: Expr, column: Expr) -> None:
        if self.p.storage.transposed:
            width = COLUMNS * self.lanes
            with T.serial(self.p.tile // width) as c:
                self._across(row, column + c * width)
        else:
            with T.serial(self.p.tile) as j:
                self._along(row, column + j)

    def _along(self, row: Expr, column: Expr) -> None:
        """Layout NK: multiply one row with one column, which is read from memory in order."""
        p, lanes, words = self.p, self.lanes, self.words
        sums = T.sblock_alloc_buffer((CHUNK,), "float32")
        store(sums, (0,), splat(f32(0), CHUNK), CHUNK)
        with T.serial(self.groups // CHUNK) as chunk:
            first, word = chunk * CHUNK, chunk * (CHUNK * words)
            for i in range(0, CHUNK * words, LINE):
                prefetch(p.words, (column, word + AHEAD + i))
            prefetch(p.scales, (column, first + AHEAD // words))
            scale = T.Bind(load_f32(p.scales, (column, first), CHUNK))
            zero = load(self.zero, (row, first), CHUNK)
            store(sums, (0,), load(sums, (0,), CHUNK) + scale * zero, CHUNK)
            for vector in range(CHUNK * words // lanes):
                total = self._word_products(row, column, word + vector * lanes, lanes)
                groups = [(vector * lanes + i) // words for i in range(lanes)]
                term = total * pick(scale, groups)
                store(sums, (0,), load(sums, (0,), lanes) + term, lanes)
        for g in range(self.groups // CHUNK * CHUNK, self.groups):
            total = self._word_products(row, column, g * words, words)
            scale = cast("float32", p.scales[column, g], 1)
            term = total * splat(scale, words)
            store(sums, (0,), load(sums, (0,), words) + term, words)
            store(sums, (0,), sums[0] + scale * self.zero[row, g], 1)
        total = fold(load(sums, (0,), CHUNK), CHUNK, "float32", add)
        store(p.product, (row, column), total, 1)

    def _word_products(self, row: Expr, column: Expr, word: Expr, lanes: int) -> Expr:
        """Return in each lane the sum of the products of one word with its activations."""
        found = T.Bind(load(self.p.words, (column, word), lanes))
        first = word // self.lanes * (self.lanes * self.per_word) + word % self.lanes
        sums: list[Expr] = []
        for place in range(self.per_word):
            x = load(self.x, (row, first + place * self.lanes), lanes)
            term = self._shifted(found, place, lanes) * x
            if place < CHAINS:
                sums.append(T.Bind(term))
            else:
                sums[place % CHAINS] = T.Bind(sums[place % CHAINS] + term)
        while len(sums) > 1:
            sums = [T.Bind(a + b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    def _across(self, row: Expr, column: Expr) -> None:
        """Layout KN: multiply one row with neighbouring columns."""
        p, lanes = self.p, self.lanes
        sums = T.sblock_alloc_buffer((COLUMNS * lanes,), "float32")
        part = T.sblock_alloc_buffer((COLUMNS * lanes,), "float32")
        vectors = range(0, COLUMNS * lanes, lanes)
        for v in vectors:
            store(sums, (v,), splat(f32(0), lanes), lanes)
        with T.serial(self.groups) as g:
            for v in vectors:
                store(part, (v,), splat(self.zero[row, g], lanes), lanes)
            for i in range(self.words):
                word = g * self.words + i
                first = word // lanes * (lanes * self.per_word) + word % lanes
                for v in vectors:
                    prefetch(p.words, (word + self.words, column + v))
                    found = T.Bind(load(p.words, (word, column + v), lanes))
                    for place in range(self.per_word):
                        x = splat(self.x[row, first + place * lanes], lanes)
                        term = self._shifted(found, place, lanes) * x
                        store(part, (v,), load(part, (v,), lanes) + term, lanes)
            for v in vectors:
                scale = load_f32(p.scales, (g, column + v), lanes)
                value = load(sums, (v,), lanes) + load(part, (v,), lanes) * scale
                store(sums, (v,), value, lanes)
        for v in vectors:
            store(p.product, (row, column + v), load(sums, (v,), lanes), lanes)

    def _rows(self, column: Expr) -> None:
        """Multiply tiles of rows: a chunk of the weight is unpacked, then used for all of them."""
        p, lanes = self.p, self.lanes
        width = COLUMNS * lanes
        tiles = tirx.ceildiv(p.rows, ROWS)
        sums = T.sblock_alloc_buffer((tiles * ROWS, width), "float32")
        with T.serial(p.tile // width) as c:
            with T.serial(tiles * ROWS) as i, T.vectorized(width) as j:
                T.buffer_store(sums, f32(0), [i, j])
            whole, rest = divmod(p.depth, CHUNK * self.group)
            with T.serial(whole) as chunk:
                self._chunk(sums, column + c * width, chunk * CHUNK, CHUNK * self.group)
            if rest:
                self._chunk(sums, column + c * width, whole * CHUNK, rest)
            with T.serial(p.rows) as i, T.vectorized(width) as j:
                T.buffer_store(p.product, sums[i, j], [i, column + c * width + j])

    def _chunk(self, sums: Any, column: Expr, first: Expr, depth: int) -> None:
        """Add the products of `depth` rows of the unpacked weight, from group `first` on."""
        lanes, width = self.lanes, COLUMNS * self.lanes
        groups = -(-depth // self.group)
        weight = T.sblock_alloc_buffer((groups * self.group, width), "float32")
        with T.serial(groups) as g:
            for v in range(0, width, lanes):
                self._unpack(weight, g, first + g, column, v)
        with T.serial(tirx.ceildiv(self.p.rows, ROWS)) as r:
            self._block(sums, weight, r * ROWS, first * self.group, depth)

    def _unpack(self, weight: Any, local: Expr, group: Expr, column: Expr, v: int) -> None:
        """Unpack one group of `lanes` columns: element k of all of them is one vector."""
        lanes = self.lanes
        scale = T.Bind(self._columns(self.p.scales, group, column + v, "float32"))
        zero = T.Bind(scale * splat(f32(-self.max_int), lanes))
        for i in range(self.words):
            found = T.Bind(
                self._columns(self.p.words, group * self.words + i, column + v, "uint32")
            )
            for place in range(self.per_word):
                shift = self._shift(place)
                q = self._shifted(found, place, lanes)
                value = q * (scale * splat(f32(2.0**-shift), lanes)) + zero
                k = local * self.group + i * self.per_word + place
                store(weight, (k, v), value, lanes)

    def _columns(self, stored: Any, line: Expr, column: Expr, dtype: str) -> Expr:
        """Return one element of each of `lanes` columns of a stored tensor."""
        if self.p.storage.transposed:
            read = load_f32 if dtype == "float32" else load
            return read(stored, (line, column), self.lanes)
        return load(transposed_load(stored, column, line, self.lanes, dtype), (0,), self.lanes)

    def _block(self, sums: Any, weight: Any, row: Expr, first: Expr, depth: int) -> None:
        """Add the products of some rows and columns, all in registers, to `sums`."""
        p, lanes = self.p, self.lanes
        tile = [(i, v) for i in range(ROWS) for v in range(0, COLUMNS * lanes, lanes)]
        total = T.sblock_alloc_buffer((ROWS, COLUMNS * lanes), "float32")
        for i, v in tile:
            store(total, (i, v), load(sums, (row + i, v), lanes), lanes)
        # Beyond the last row the last one is read again: its products are not written.
        lines = [T.Bind(T.min(row + i, p.rows - 1)) for i in range(ROWS)]
        with T.serial(depth) as k:
            w = [T.Bind(load(weight, (k, v), lanes)) for v in range(0, COLUMNS * lanes, lanes)]
            for i, line in enumerate(lines):
                x = T.Bind(splat(self.activation[line, first + k], lanes))
                for j, value in enumerate(w):
                    at = (i, j * lanes)
                    store(total, at, load(total, at, lanes) + value * x, lanes)
        for i, v in tile:
            store(sums, (row + i, v), load(total, (i, v), lanes), lanes)

    def _shift(self, place: int) -> int:
        """Return by how much the element at a place is shifted when `_shifted` has read it."""
        return 0 if (place + 1) * self.bits == 32 else place * self.bits

    def _shifted(self, words: Expr, place: int, lanes: int) -> Expr:
        """Return one element of each word as float32, times two to the power of `_shift`."""
        if self._shift(place) == 0 and place:
            # The highest bits: left in place they would be a sign.
            found = words >> splat(tirx.const(place * self.bits, "uint32"), lanes)
        else:
            mask = ((1 << self.bits) - 1) << (place * self.bits)
            found = words & splat(tirx.const(mask, "uint32"), lanes)
        return cast("float32", T.reinterpret(_vector("int32", lanes), found), lanes)


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
