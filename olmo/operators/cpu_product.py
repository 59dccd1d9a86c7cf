"""A matrix product in a fused function: found by its stages, its computation replaced.

The stages are those that `olmo.modeling.quantized_layers` names. What follows the product stays as it is.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T  # noqa: N812 - the name TVM's users know

PRODUCT = "NT_matmul"
Finish = Callable[[Any], None]


@dataclass(frozen=True)
class Storage:
    """How a group-quantized weight is stored; see `olmo.quantization.Quantization`."""

    bits: int
    group_size: int
    max_int: int
    transposed: bool


@dataclass(frozen=True)
class Product:
    """A product [rows, depth] x [columns, depth]ᵀ with its buffers."""

    activation: Any
    words: Any
    scales: Any
    product: Any
    rows: Any
    columns: int
    depth: int
    storage: Storage

    @property
    def one_row(self) -> bool:
        """Whether there is one row of activations and never more."""
        return isinstance(self.rows, tirx.IntImm)

    @property
    def tile(self) -> int:
        """The number of columns of one task of the thread pool."""
        return divisor(self.columns, 32)


def find(function: tirx.PrimFunc) -> Product | None:
    """Return the product with a group-quantized weight in `function`, or None."""
    stages = {nest.name_hint: nest for nest in map(_block, _nests(function))}
    if PRODUCT not in stages or "storage.bits" not in stages["dequantize"].annotations:
        return None
    weight = stages["dequantize"]
    product = stages[PRODUCT].writes[0].source
    columns, depth = (int(extent) for extent in weight.writes[0].source.shape)
    note = {
        key: int(weight.annotations[f"storage.{key}"])
        for key in ("bits", "group_size", "max_int", "transposed")
    }
    return Product(
        activation=stages["activation"].reads[0].source,
        words=weight.reads[0].source,
        scales=stages["scale"].reads[0].source,
        product=product,
        rows=product.shape[0],
        columns=columns,
        depth=depth,
        storage=Storage(
            note["bits"], note["group_size"], note["max_int"], bool(note["transposed"])
        ),
    )


def replace(
    function: tirx.PrimFunc, product: Product, emit: Callable[[Finish], None]
) -> tirx.PrimFunc:
    """Return `function` with its stages replaced by those that `emit` writes.

    `emit` writes each tile of the product, then calls what it is given with the tile's first
    column: this writes what follows the product, for all rows and `product.tile` columns.
    """
    following, buffers = _following(function)

    def finish(column: Any) -> None:
        if following is not None:
            with T.serial(product.rows) as i, T.vectorized(product.tile) as j:
                T.add_to_parent(s_tir.SBlockRealize([i, column + j], True, following))

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("product")
        emit(finish)
    made = builder.get().body.block
    buffers = [*made.alloc_buffers, *buffers]
    block = s_tir.SBlock([], [], [], "root", made.body, alloc_buffers=buffers)
    return function.with_body(s_tir.SBlockRealize([], True, block))


def _following(function: tirx.PrimFunc) -> tuple[Any | None, list[Any]]:
    """Return what follows the product as one block, and the buffer between them, if any."""
    sch = s_tir.Schedule(function)
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    names = [str(sch.get(block).name_hint) for block in blocks]
    blocks = blocks[names.index(PRODUCT) :]
    if len(blocks) == 1:
        return None, []
    for block in blocks[1:-1]:
        sch.compute_inline(block)
    product, following = sch.get(blocks[0]), sch.get(blocks[-1])
    return following, [product.writes[0].source]


def divisor(number: int, limit: int) -> int:
    """Return the largest power of two up to `limit` that divides `number`."""
    while number % limit:
        limit //= 2
    return limit


def _nests(function: tirx.PrimFunc) -> list[Any]:
    """Return the loop nests of a function, none if it is not made of such."""
    if not isinstance(function.body, s_tir.SBlockRealize):
        return []
    body = function.body.block.body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


def _block(nest: Any) -> Any:
    while isinstance(nest, tirx.For):
        nest = nest.body
    return nest.block
