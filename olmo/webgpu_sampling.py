"""Sampling within the limits of WebGPU: sorting a vocabulary's probabilities, and drawing from them.

TVM's own sort needs more axes of blocks than WebGPU has, and its top-p more memory of a workgroup.
Limits kept here: 256 threads and 16 KiB of shared memory for each workgroup, two axes of blocks.
Names and arguments are MLC's.
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, C901, N812, PLR0912, PLR0915

import tvm
from tvm import relax, tirx
from tvm.script import tirx as T

THREADS = 256
TILE = 1024  # elements that a workgroup sorts in its shared memory


def with_sampling(module: tvm.IRModule, vocab: int) -> tvm.IRModule:
    """Return the module with `argsort_probs` and `sample_with_top_p` for rows of `vocab`.

    `argsort_probs(probs)` takes [batch, vocab] in float32, and returns them in descending order
    with their indices in int32; equal ones keep their order. `sample_with_top_p(sorted_probs,
    sorted_indices, uniform_samples, sample_indices, top_p)` draws for each of `sample_indices`, a
    row, with a number in [0, 1) from `uniform_samples`: from the fewest likeliest tokens that
    together have at least `top_p` of their row. It returns the tokens, [samples].
    """
    builder = relax.BlockBuilder(module)
    batch, samples = tirx.Var("batch_size", "int64"), tirx.Var("num_samples", "int64")
    rows = (batch, vocab)

    probs = relax.Var("probs", relax.TensorType(rows, "float32"))
    with builder.function("argsort_probs", [probs]):
        padded = (batch, _padded(vocab))
        results = [(padded, "float32"), (padded, "int32"), (rows, "float32"), (rows, "int32")]
        sort = builder.add_func(argsort(vocab), "argsort")
        found = builder.emit(
            relax.call_tir(sort, [probs], [relax.TensorType(*result) for result in results])
        )
        builder.emit_func_output(relax.Tuple([found[2], found[3]]))

    arguments = [
        relax.Var("sorted_probs", relax.TensorType(rows, "float32")),
        relax.Var("sorted_indices", relax.TensorType(rows, "int32")),
        relax.Var("uniform_samples", relax.TensorType((samples,), "float32")),
        relax.Var("sample_indices", relax.TensorType((samples,), "int32")),
        relax.Var("top_p", relax.TensorType((batch,), "float32")),
    ]
    with builder.function("sample_with_top_p", arguments):
        draw = builder.add_func(sample(vocab), "sample")
        tokens = relax.TensorType((samples,), "int32")
        builder.emit_func_output(builder.emit(relax.call_tir(draw, arguments, tokens)))
    return builder.finalize()


def _padded(vocab: int) -> int:
    """Return the power of two that `vocab` elements are sorted in."""
    return max(TILE, 1 << (vocab - 1).bit_length())


def argsort(vocab: int) -> tirx.PrimFunc:
    """Return a bitonic sort of each row: Batcher's network (1968), tiles in shared memory.

    Its arguments are the probabilities, two buffers of the padded length to work in, and the sorted
    values and indices. Of the log2(n) (log2(n) + 1) / 2 steps, those over distances below a tile
    share launches: 100 000 elements take 37.
    """
    padded = _padded(vocab)
    tiles, log_tile = padded // TILE, TILE.bit_length() - 1
    later = padded.bit_length() - 1 - log_tile  # stages that cross tiles
    copies = -(-vocab // THREADS)

    @T.macro
    def exchange(values, orders, low, far, is_descending):
        """Put two elements in order, `far` from each other."""
        a: T.let[T.float32] = values[low]
        b: T.let[T.float32] = values[low + far]
        i: T.let[T.int32] = orders[low]
        j: T.let[T.int32] = orders[low + far]
        if (a < b or (a == b and i > j)) == is_descending:
            values[low] = b
            values[low + far] = a
            orders[low] = j
            orders[low + far] = i

    @T.macro
    def merge_tile(near, near_order, tile, thread, stage, log_far):
        """Take the steps of a stage from the distance 2**log_far down."""
        for step in T.serial(log_far + 1):
            far: T.let[T.int32] = T.shift_left(1, log_far - step)
            T.tvm_storage_sync("shared")
            for part in T.serial(TILE // 2 // THREADS):
                pair: T.let[T.int32] = part * THREADS + thread
                low: T.let[T.int32] = 2 * pair - T.bitwise_and(pair, far - 1)
                turn: T.let[T.int32] = T.bitwise_and(tile * TILE + low, T.shift_left(2, stage))
                exchange(near, near_order, low, far, turn == 0)

    @T.prim_func(s_tir=True)
    def sort(
        probs_handle: T.handle,
        value_handle: T.handle,
        order_handle: T.handle,
        sorted_handle: T.handle,
        index_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch = T.int32()
        probs = T.match_buffer(probs_handle, (batch, vocab), "float32")
        value = T.match_buffer(value_handle, (batch, padded), "float32")
        order = T.match_buffer(order_handle, (batch, padded), "int32")
        sorted_probs = T.match_buffer(sorted_handle, (batch, vocab), "float32")
        index = T.match_buffer(index_handle, (batch, vocab), "int32")
        for row in T.thread_binding(batch, "blockIdx.y"):
            for tile in T.thread_binding(tiles, "blockIdx.x"):
                for thread in T.thread_binding(THREADS, "threadIdx.x"):
                    with T.sblock("sort_tile"):
                        T.reads()
                        T.writes()
                        near = T.sblock_alloc_buffer((TILE,), "float32", scope="shared")
                        near_order = T.sblock_alloc_buffer((TILE,), "int32", scope="shared")
                        for part in T.serial(TILE // THREADS):
                            at: T.let[T.int32] = part * THREADS + thread
                            place: T.let[T.int32] = tile * TILE + at
                            near[at] = T.if_then_else(
                                place < vocab, probs[row, place], T.float32(-1)
                            )
                            near_order[at] = place
                        for stage in T.serial(log_tile):
                            merge_tile(near, near_order, tile, thread, stage, stage)
                        T.tvm_storage_sync("shared")
                        for part in T.serial(TILE // THREADS):
                            at: T.let[T.int32] = part * THREADS + thread
                            value[row, tile * TILE + at] = near[at]
                            order[row, tile * TILE + at] = near_order[at]
        for extra in T.serial(later):
            for step in T.serial(extra + 1):
                for row in T.thread_binding(batch, "blockIdx.y"):
                    for block in T.thread_binding(padded // 2 // THREADS, "blockIdx.x"):
                        for thread in T.thread_binding(THREADS, "threadIdx.x"):
                            with T.sblock("exchange_far"):
                                T.reads()
                                T.writes()
                                far: T.let[T.int32] = T.shift_left(TILE, extra - step)
                                pair: T.let[T.int32] = block * THREADS + thread
                                low: T.let[T.int32] = 2 * pair - T.bitwise_and(pair, far - 1)
                                turn: T.let[T.int32] = T.bitwise_and(
                                    low, T.shift_left(2 * TILE, extra)
                                )
                                a: T.let[T.float32] = value[row, low]
                                b: T.let[T.float32] = value[row, low + far]
                                i: T.let[T.int32] = order[row, low]
                                j: T.let[T.int32] = order[row, low + far]
                                if (a < b or (a == b and i > j)) == (turn == 0):
                                    value[row, low] = b
                                    value[row, low + far] = a
                                    order[row, low] = j
                                    order[row, low + far] = i
            for row in T.thread_binding(batch, "blockIdx.y"):
                for tile in T.thread_binding(tiles, "blockIdx.x"):
                    for thread in T.thread_binding(THREADS, "threadIdx.x"):
                        with T.sblock("merge_tile"):
                            T.reads()
                            T.writes()
                            near = T.sblock_alloc_buffer((TILE,), "float32", scope="shared")
                            near_order = T.sblock_alloc_buffer((TILE,), "int32", scope="shared")
                            for part in T.serial(TILE // THREADS):
                                at: T.let[T.int32] = part * THREADS + thread
                                near[at] = value[row, tile * TILE + at]
                                near_order[at] = order[row, tile * TILE + at]
                            merge_tile(
                                near, near_order, tile, thread, extra + log_tile, log_tile - 1
                            )
                            T.tvm_storage_sync("shared")
                            for part in T.serial(TILE // THREADS):
                                at: T.let[T.int32] = part * THREADS + thread
                                value[row, tile * TILE + at] = near[at]
                                order[row, tile * TILE + at] = near_order[at]
        for row in T.thread_binding(batch, "blockIdx.y"):
            for block in T.thread_binding(copies, "blockIdx.x"):
                for thread in T.thread_binding(THREADS, "threadIdx.x"):
                    with T.sblock("copy"):
                        T.reads()
                        T.writes()
                        place: T.let[T.int32] = block * THREADS + thread
                        if place < vocab:
                            sorted_probs[row, place] = value[row, place]
                            index[row, place] = order[row, place]

    return sort.without_attr("global_symbol")


def sample(vocab: int) -> tirx.PrimFunc:
    """Return the draw from sorted rows: a workgroup for each sample, its threads sum pieces."""
    piece = -(-vocab // THREADS)

    @T.macro
    def find(probs, row, sums, level, is_past, total, at, found):
        """Put into `at` the first element at which `is_past(total)`, its sum into `total`.

        Where there is none `at` is left, and `total` is the sum of all.
        """
        total[0] = T.float32(0)
        found[0] = 0
        found[1] = THREADS - 1
        for part in T.serial(THREADS - 1):
            if found[0] == 0:
                beyond: T.let[T.float32] = total[0] + sums[part]
                if is_past(beyond, level):
                    found[0] = 1
                    found[1] = part
                    at[0] = T.min((part + 1) * piece, vocab) - 1  # rounding may miss all below
                else:
                    total[0] = beyond
        found[0] = 0
        for element in T.serial(piece):
            if found[0] == 0 and found[1] * piece + element < vocab:
                total[0] = total[0] + probs[row, found[1] * piece + element]
                if is_past(total[0], level):
                    found[0] = 1
                    at[0] = found[1] * piece + element

    def reaches(total, level):
        return total >= level

    def exceeds(total, level):
        return total > level

    @T.prim_func(s_tir=True)
    def sample_with_top_p(
        probs_handle: T.handle,
        index_handle: T.handle,
        uniform_handle: T.handle,
        row_handle: T.handle,
        top_p_handle: T.handle,
        token_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, samples = T.int32(), T.int32()
        probs = T.match_buffer(probs_handle, (batch, vocab), "float32")
        index = T.match_buffer(index_handle, (batch, vocab), "int32")
        uniform = T.match_buffer(uniform_handle, (samples,), "float32")
        rows = T.match_buffer(row_handle, (samples,), "int32")
        top_p = T.match_buffer(top_p_handle, (batch,), "float32")
        token = T.match_buffer(token_handle, (samples,), "int32")
        for draw in T.thread_binding(samples, "blockIdx.x"):
            for thread in T.thread_binding(THREADS, "threadIdx.x"):
                with T.sblock("sample"):
                    T.reads()
                    T.writes()
                    sums = T.sblock_alloc_buffer((THREADS,), "float32", scope="shared")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    at = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    last = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    found = T.sblock_alloc_buffer((2,), "int32", scope="local")
                    row: T.let[T.int32] = rows[draw]
                    total[0] = T.float32(0)
                    for element in T.serial(piece):
                        if thread * piece + element < vocab:
                            total[0] = total[0] + probs[row, thread * piece + element]
                    sums[thread] = total[0]
                    T.tvm_storage_sync("shared")
                    if thread == 0:
                        last[0] = vocab - 1
                        find(probs, row, sums, top_p[row], reaches, total, last, found)
                        wanted: T.let[T.float32] = uniform[draw] * total[0]
                        at[0] = last[0]
                        find(probs, row, sums, wanted, exceeds, total, at, found)
                        token[draw] = index[row, T.min(at[0], last[0])]

    return sample_with_top_p.without_attr("global_symbol")
