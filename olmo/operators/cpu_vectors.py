"""Vectors in TIR: loads, stores and reductions, written with TVM's builder.

Kernels built of these name every vector register themselves. A "register file" is a small buffer
that is indexed by constants only: LLVM keeps it in registers.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812 - the name TVM's users know

Expr = Any


def f32(value: float) -> Expr:
    """Return a float32 constant."""
    return tirx.const(value, "float32")


def load(buffer: Any, indices: Sequence[Expr], lanes: int) -> Expr:
    """Return `lanes` neighbouring elements, from the one at `indices` on."""
    return buffer[_range(indices, lanes)]


def store(buffer: Any, indices: Sequence[Expr], value: Expr, lanes: int) -> None:
    """Store a vector to `lanes` neighbouring elements."""
    T.buffer_store(buffer, value, list(_range(indices, lanes)))


def load_f32(buffer: Any, indices: Sequence[Expr], lanes: int) -> Expr:
    """Return `lanes` neighbouring elements of any float dtype, converted to float32."""
    if buffer.dtype != "bfloat16" or lanes == 1:
        return cast("float32", load(buffer, indices, lanes), lanes)
    # TVM converts single bfloat16 and vectors that it has made of loops, but none that are written.
    *outer, first = indices
    made = T.sblock_alloc_buffer((lanes,), "float32")
    with T.vectorized(lanes) as lane:
        T.buffer_store(made, T.Cast("float32", buffer[(*outer, first + lane)]), [lane])
    return load(made, (0,), lanes)


def splat(value: Expr, lanes: int) -> Expr:
    """Return the vector whose lanes all have this value."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def cast(dtype: str, value: Expr, lanes: int) -> Expr:
    """Return a vector converted lane by lane."""
    return T.Cast(dtype if lanes == 1 else f"{dtype}x{lanes}", value)


def pick(vector: Expr, lanes: Sequence[int]) -> Expr:
    """Return the vector of the given lanes of another one."""
    return tirx.Shuffle([vector], [tirx.const(lane, "int32") for lane in lanes])


def fold(vector: Expr, lanes: int, dtype: str, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """Return one element of all of a vector's, halving it again and again.

    The order is that of the lanes, so a sum has the same bits on every machine.
    """
    parts = T.sblock_alloc_buffer((lanes,), dtype)
    store(parts, (0,), vector, lanes)
    while lanes > 1:
        lanes //= 2
        halved = combine(load(parts, (0,), lanes), load(parts, (lanes,), lanes))
        store(parts, (0,), halved, lanes)
    return parts[0]


def add(a: Expr, b: Expr) -> Expr:
    """Return the sum."""
    return a + b


def prefetch(buffer: Any, indices: Sequence[Expr]) -> None:
    """Tell the cache that an element will be read; it may lie outside of the buffer."""
    read, keep, data = (tirx.const(value, "int32") for value in (0, 3, 1))
    address = T.address_of(buffer[tuple(indices)])
    T.evaluate(T.call_intrin("void", tvm.ir.Op.get("tirx.prefetch"), address, read, keep, data))


def transposed_load(buffer: Any, row: Expr, column: Expr, lanes: int, dtype: str) -> Any:
    """Return a register file of one column of `lanes` rows, converted to `dtype`."""
    made = T.sblock_alloc_buffer((lanes,), dtype)
    with T.vectorized(lanes) as lane:
        value = buffer[row + lane, column]
        T.buffer_store(made, value if buffer.dtype == dtype else T.Cast(dtype, value), [lane])
    return made


def _range(indices: Sequence[Expr], lanes: int) -> tuple[Expr, ...]:
    *outer, first = indices
    return (*outer, first if lanes == 1 else tirx.Ramp(first, 1, lanes))
