"""Schedules for CPUs: vectorised over the reduction, parallel over tiles of the output.

A matrix product is computed as dot products. Each of `lanes` vector lanes sums its share of the
inner dimension, and a tile of rows and columns is in registers at once, so that the additions of
one sum do not wait for each other. With one row (decode) weights are dequantized where they are
used; with more rows (prefill, batches) once per tile of columns, into scratch memory.

Group-quantized weights have kernels of their own (`olmo.operators.cpu_group_product`), for shapes that these
divide. The stages of a product are those that `olmo.modeling.quantized_layers` names.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-untyped-decorators

from typing import Any

import tvm
from tvm import s_tir, tirx

from olmo.operators import cpu_product
from olmo.operators.cpu_group_product import GroupProduct
from olmo.operators.cpu_product import divisor

ROW_TILE = 4  # rows in registers at once, where there may be more than one
UNROLL = 4  # vectors of the inner dimension per step: one group of quantized weights, 4 * 8 lanes
MAX_SCRATCH_DEPTH = 4096  # beyond this many columns of input, tiles are half as wide


@tvm.transform.module_pass(opt_level=0, name="ScheduleForCpu")
def schedule_for_cpu(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Schedule every PrimFunc that its author has not, for the target in scope."""
    target = tvm.target.Target.current()
    for name, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and not _is_scheduled(function):
            scheduled = schedule(function, target)
            if scheduled is not None:
                module.update_func(name, scheduled.with_attr("tirx.is_scheduled", True))
    return module


def vector_lanes(target: tvm.target.Target) -> int:
    """Return the number of float32 in one vector register of the target's CPU."""
    for feature, lanes in (("avx512f", 16), ("avx", 8)):
        if tvm.target.codegen.target_has_features(feature, target):
            return lanes
    return 4


def schedule(function: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
    """Return the scheduled function, or None where it is left as it is."""
    lanes = vector_lanes(target)
    product = cpu_product.find(function)
    if product is not None:
        kernel = GroupProduct.of(product, lanes)
        if kernel is not None:
            return cpu_product.replace(function, product, kernel.emit)
    sch = s_tir.Schedule(function)
    stages = _stages(sch)
    if "NT_matmul" in stages:
        _matmul(sch, stages, lanes)
    elif "normalise" in stages:
        _layer_norm(sch, stages, lanes)
    elif not _elementwise(sch, stages, lanes):
        return None
    return sch.mod["main"]


def _is_scheduled(function: tirx.PrimFunc) -> bool:
    return "tirx.is_scheduled" in function.attrs


def _stages(sch: s_tir.Schedule) -> dict[str, Any]:
    """Return the blocks below the root by name, in order; none for a function not made of such."""
    try:
        blocks = sch.get_child_blocks(sch.get_sblock("root"))
    except ValueError:
        return {}
    return {str(sch.get(block).name_hint): block for block in blocks}


def _matmul(sch: s_tir.Schedule, stages: dict[str, Any], lanes: int) -> None:
    product = stages["NT_matmul"]
    rows, columns, depth = (sch.get(loop).extent for loop in sch.get_loops(product))
    one_row = _is_one(rows)
    epilogue = _epilogue(sch, stages, one_row)
    _activation(sch, stages["activation"], one_row, lanes)
    scratch, scale = _weight(sch, stages, one_row)

    # Output: parallel over tiles of columns; a step of rows and columns is in registers at once.
    wide = 16 if scratch is not None and int(depth) > MAX_SCRATCH_DEPTH else 32
    column_tile = divisor(int(columns), wide)
    column_step = divisor(column_tile, 4 if one_row else 2)
    i, j, k = sch.get_loops(product)
    partial = sch.rfactor(_split_depth(sch, k, lanes, one_row), 2)
    i, j, lane = sch.get_loops(product)
    row, ri = sch.split(i, [None, 1 if one_row else ROW_TILE])
    tile, column, ci = sch.split(j, [None, column_tile // column_step, column_step])
    sch.reorder(tile, row, column, ri, ci, lane)
    sch.parallel(tile)
    sch.compute_at(partial, column if one_row else row, preserve_unit_loops=True)
    for block, loop in ((scale, column), (scratch, tile)):
        if block is not None:
            sch.compute_at(block, loop, preserve_unit_loops=True)
            _vectorize_last(sch, block, lanes)
    if epilogue is not None:
        sch.reverse_compute_at(epilogue, column)
    _unroll(sch, ri, ci, lane)

    lane, ri, j, depth_block, step, word = sch.get_loops(partial)[-6:]
    column, ci = sch.split(j, [None, column_step])
    sch.reorder(depth_block, column, step, word, ri, ci, lane)
    _unroll(sch, word, ri, ci)
    sch.vectorize(lane)
    sch.decompose_reduction(partial, depth_block)


def _epilogue(sch: s_tir.Schedule, stages: dict[str, Any], one_row: bool) -> Any | None:
    """Fuse what follows the product into one block, if anything does; pad rows to whole tiles."""
    names = list(stages)
    following = [stages[name] for name in names[names.index("NT_matmul") + 1 :]]
    for stage in following[:-1]:
        sch.compute_inline(stage)
    last = following[-1] if following else None
    if not one_row:
        # The condition on the last rows then stands outside the sums, around what is written.
        sch.pad_einsum(stages["NT_matmul"], [ROW_TILE, 1, 1])
        (written,) = sch.get_consumers(stages["NT_matmul"])
        if last is None:
            return written
        sch.compute_inline(written)
    return last


def _weight(
    sch: s_tir.Schedule, stages: dict[str, Any], one_row: bool
) -> tuple[Any | None, Any | None]:
    """Inline what is not worth a buffer; return the blocks of weights and scales that are."""
    weight, scale = stages["dequantize"], stages.get("scale")
    scratch = not one_row and not _is_copy(sch, weight)
    if not scratch:
        sch.compute_inline(weight)
    if scale is not None and (scratch or _is_copy(sch, scale)):
        sch.compute_inline(scale)
        scale = None
    return (weight if scratch else None), scale


def _split_depth(sch: s_tir.Schedule, k: Any, lanes: int, one_row: bool) -> Any:
    """Split the inner dimension into blocks, steps, vectors of a step and lanes; return the last.

    A block of some 64 vectors keeps the input rows of a tile in the first-level cache.
    """
    width = divisor(depth := int(sch.get(k).extent), lanes)
    unroll = divisor(depth // width, UNROLL)
    steps = depth // width // unroll
    blocks = 1 if one_row else steps // divisor(steps, 16)
    return sch.split(k, [blocks, None, unroll, width])[-1]


def _unroll(sch: s_tir.Schedule, *loops: Any) -> None:
    for loop in loops:
        sch.unroll(loop)


def _activation(sch: s_tir.Schedule, block: Any, one_row: bool, lanes: int) -> None:
    """Convert (and pad) the input rows once, before the product, where there is anything to do."""
    if one_row and _is_copy(sch, block):
        sch.compute_inline(block)
        return
    if not one_row:
        (padded,) = sch.get_consumers(block)
        sch.compute_inline(block)
        block = padded
        sch.parallel(sch.get_loops(block)[0])
    _vectorize_last(sch, block, lanes)


def _layer_norm(sch: s_tir.Schedule, stages: dict[str, Any], lanes: int) -> None:
    for name in ("mean", "inverse"):
        sch.compute_inline(stages[name])
    output = stages["normalise"]
    row = sch.get_loops(output)[0]
    sch.parallel(row)
    for name in ("squares", "total"):
        *_, k = sch.get_loops(stages[name])
        _, lane = sch.split(k, [None, divisor(int(sch.get(k).extent), 4 * lanes)])
        partial = sch.rfactor(lane, 0)
        for block in (stages[name], partial):
            sch.compute_at(block, row, preserve_unit_loops=True)
        lane, _, step = sch.get_loops(partial)[-3:]
        sch.reorder(step, lane)
        sch.vectorize(lane)
        sch.decompose_reduction(partial, step)
    _vectorize_last(sch, output, lanes)


def _elementwise(sch: s_tir.Schedule, stages: dict[str, Any], lanes: int) -> bool:
    """Fuse the stages into the last one, vectorise its last axis; False if there is a reduction."""
    blocks = list(stages.values())
    for block in blocks:
        if any(v.iter_type != tirx.IterVar.DataPar for v in sch.get(block).iter_vars):
            return False
    if not blocks or not sch.get_loops(blocks[-1]):
        return False
    for block in blocks[:-1]:
        sch.compute_inline(block)
    loops = sch.get_loops(blocks[-1])
    if len(loops) > 1 and not _is_one(sch.get(loops[0]).extent):
        sch.parallel(loops[0])
    _vectorize_last(sch, blocks[-1], lanes)
    return True


def _vectorize_last(sch: s_tir.Schedule, block: Any, lanes: int) -> None:
    last = sch.get_loops(block)[-1]
    extent = sch.get(last).extent
    if isinstance(extent, tirx.IntImm):
        _, lane = sch.split(last, [None, divisor(int(extent), lanes)])
        sch.vectorize(lane)


def _is_copy(sch: s_tir.Schedule, block: Any) -> bool:
    """Whether the block stores elements as they are, without conversion or arithmetic."""
    return isinstance(sch.get(block).body.value, tvm.ir.TensorLoad)


def _is_one(extent: tirx.Expr) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent) == 1
