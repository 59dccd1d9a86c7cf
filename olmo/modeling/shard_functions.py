"""Functions that only a library for several devices has.

Some divide its weights, and MLC's runtime calls them as it loads: one takes a whole stored tensor
and writes all parts, [shards, *part]. There is one for each kind of stored tensor, since layers are
alike. Others move hidden states by indices that the first device alone was given.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Iterable, Mapping

import tvm
from tvm import relax, te, tirx

from olmo.modeling.pipeline_stages import BROADCAST
from olmo.parallel import Division

# Functions of states, indices and states that they change.
TAKE_INDICES = ("gather_hidden_states", "scatter_hidden_states")


def shard_functions(divisions: Iterable[Division]) -> Mapping[str, tirx.PrimFunc]:
    """Return the functions that divide, by name."""
    by_name = {division.function: division for division in divisions}
    return {
        name: _divide(division).with_attr("global_symbol", name)
        for name, division in by_name.items()
    }


def _divide(division: Division) -> tirx.PrimFunc:
    whole, part = division.whole, division.part
    given = te.placeholder([_int64(n) for n in whole.shape], whole.dtype, name="whole")

    def element(shard: tirx.Expr, *place: tirx.Expr) -> tirx.Expr:
        index = list(place)
        index[division.axis] = _place_in_whole(division, shard, place[division.axis])
        return given(*index)

    shape = [_int64(n) for n in (division.shards, *part.shape)]
    return te.create_prim_func([given, te.compute(shape, element, name="parts")])


def _place_in_whole(division: Division, shard: tirx.Expr, place: tirx.Expr) -> tirx.Expr:
    """Return where in the whole tensor, along the divided axis, a place of a part is."""
    found: tirx.Expr | None = None
    before = sum(division.segments)
    for segment in reversed(division.segments):
        before -= segment
        size, first = _int64(segment // division.shards), _int64(before // division.shards)
        here = before + shard * size + (place - first)
        found = here if found is None else tirx.if_then_else(place < first + size, here, found)
    return found


def _int64(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")  # large embeddings have more elements than int32 counts


def with_given_indices(
    module: tvm.IRModule, functions: Mapping[str, tirx.PrimFunc], width: int, dtype: str
) -> tvm.IRModule:
    """Return the module with functions that call these with the indices of the first device.

    Arguments are states [.., width] of `dtype`, indices int32, and states that are changed, which a
    function also returns.
    """
    builder = relax.BlockBuilder(module)
    for name, move in functions.items():
        rows, given, changed = (tirx.Var(n, "int64") for n in ("rows", "given", "changed"))
        source = relax.Var("source", relax.TensorType((given, width), dtype))
        index = relax.Var("index", relax.TensorType((rows,), "int32"))
        target = relax.Var("target", relax.TensorType((changed, width), dtype))
        arguments = [source, index, target]
        with builder.function(name, arguments, pure=False):
            same = [index, relax.prim_value(0), index]  # for everyone, in place
            builder.emit(relax.Call(relax.ExternFunc(BROADCAST), same, ty_args=[relax.AnyType()]))
            private = builder.add_func(move.without_attr("global_symbol"), f"{name}_by_index")
            moved = relax.op.call_tir_inplace(private, arguments, 2, target.ty)
            builder.emit_func_output(builder.emit(moved))
    return builder.finalize()
