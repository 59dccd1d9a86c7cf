"""Sorting a vocabulary's probabilities within the limits of WebGPU.

TVM's own sort needs three axes of blocks, WebGPU has two. A workgroup has 256 threads and 16 KiB of
shared memory.
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, C901, N812, PLR0912, PLR0915

from tvm import tirx
from tvm.script import tirx as T

THREADS = 256
TILE = 1024  # elements that a workgroup sorts in its shared memory


def padded_length(vocab: int) -> int:
    """Return the power of two that `vocab` elements are sorted in."""
    return max(TILE, 1 << (vocab - 1).bit_length())


def argsort(vocab: int) -> tirx.PrimFunc:
    """Return a bitonic sort of each row, descending; equal probabilities keep their order.

    Its arguments are the probabilities, two buffers of the padded length to work in, and the sorted
    values and indices. Batcher's network (1968), with tiles in shared memory: of the log2(n) (log2(n) + 1) / 2 steps, those over distances below a tile
    share launches: 100 000 elements take 37.
    """
    padded = padded_length(vocab)
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
