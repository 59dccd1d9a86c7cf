"""What `olmo.modeling.logit_functions` does, as kernels for GPUs: one thread for each token or element.

Names, arguments and results are the same. Threads write distinct elements, because tokens of one
call are distinct for each sequence.
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN202, N812

from collections.abc import Mapping

from tvm import tirx
from tvm.script import tirx as T

from olmo.modeling.logit_functions import WORD

THREADS = 256  # of a block: no target allows fewer


def gpu_logit_functions(dtype: str) -> Mapping[str, tirx.PrimFunc]:
    """Return the functions by name; hidden states have `dtype`, logits are float32."""
    functions = {
        "apply_logit_bias_inplace": _logit_bias(),
        "apply_penalty_inplace": _penalty(),
        "apply_bitmask_inplace": _bitmask(),
        "gather_hidden_states": _rows(dtype, gather=True),
        "scatter_hidden_states": _rows(dtype, gather=False),
    }
    return {name: made.with_attr("global_symbol", name) for name, made in functions.items()}


def _logit_bias() -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def apply_logit_bias_inplace(
        logits_handle: T.handle,
        position_handle: T.handle,
        token_handle: T.handle,
        bias_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, vocab, tokens = T.int32(), T.int32(), T.int32()
        logits = T.match_buffer(logits_handle, (batch, vocab), "float32")
        position = T.match_buffer(position_handle, (tokens,), "int32")
        token = T.match_buffer(token_handle, (tokens,), "int32")
        bias = T.match_buffer(bias_handle, (tokens,), "float32")
        for block in T.thread_binding(T.ceildiv(tokens, THREADS), thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("bias"):
                    T.where(block * THREADS + thread < tokens)
                    i = T.axis.spatial(tokens, block * THREADS + thread)
                    logits[position[i], token[i]] = logits[position[i], token[i]] + bias[i]

    return apply_logit_bias_inplace


def _penalty() -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def apply_penalty_inplace(
        logits_handle: T.handle,
        row_handle: T.handle,
        position_handle: T.handle,
        token_handle: T.handle,
        count_handle: T.handle,
        penalty_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, vocab, sequences, tokens = T.int32(), T.int32(), T.int32(), T.int32()
        logits = T.match_buffer(logits_handle, (batch, vocab), "float32")
        row = T.match_buffer(row_handle, (sequences,), "int32")
        position = T.match_buffer(position_handle, (tokens,), "int32")
        token = T.match_buffer(token_handle, (tokens,), "int32")
        count = T.match_buffer(count_handle, (tokens,), "int32")
        penalty = T.match_buffer(penalty_handle, (sequences, 3), "float32")
        for block in T.thread_binding(T.ceildiv(tokens, THREADS), thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("penalty"):
                    T.where(block * THREADS + thread < tokens)
                    i = T.axis.spatial(tokens, block * THREADS + thread)
                    lowered: T.let[T.float32] = logits[row[position[i]], token[i]] - (
                        penalty[position[i], 0]
                        + T.cast(count[i], "float32") * penalty[position[i], 1]
                    )
                    logits[row[position[i]], token[i]] = T.if_then_else(
                        lowered < T.float32(0),
                        lowered * penalty[position[i], 2],
                        lowered / penalty[position[i], 2],
                    )

    return apply_penalty_inplace


def _bitmask() -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def apply_bitmask_inplace(logits_handle: T.handle, row_handle: T.handle, mask_handle: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, vocab, sequences = T.int32(), T.int32(), T.int32()
        logits = T.match_buffer(logits_handle, (batch, vocab), "float32")
        row = T.match_buffer(row_handle, (sequences,), "int32")
        mask = T.match_buffer(mask_handle, (batch, (vocab + (WORD - 1)) // WORD), "int32")
        for block in T.thread_binding(T.ceildiv(sequences * vocab, THREADS), thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("mask"):
                    T.where(block * THREADS + thread < sequences * vocab)
                    i = T.axis.spatial(sequences, (block * THREADS + thread) // vocab)
                    j = T.axis.spatial(vocab, (block * THREADS + thread) % vocab)
                    if T.bitwise_and(mask[row[i], j // WORD] >> (j % WORD), 1) == 0:
                        logits[row[i], j] = T.min_value("float32")

    return apply_bitmask_inplace


def _rows(dtype: str, *, gather: bool) -> tirx.PrimFunc:
    """Return the copy of rows from where `index` says (gather), or to there (scatter)."""

    @T.prim_func(s_tir=True)
    def copy_rows(
        source_handle: T.handle,
        index_handle: T.handle,
        target_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        held, made, rows, width = T.int32(), T.int32(), T.int32(), T.int32()
        source = T.match_buffer(source_handle, (held, width), dtype)
        index = T.match_buffer(index_handle, (rows,), "int32")
        target = T.match_buffer(target_handle, (made, width), dtype)
        for block in T.thread_binding(T.ceildiv(rows * width, THREADS), thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("copy"):
                    T.where(block * THREADS + thread < rows * width)
                    i = T.axis.spatial(rows, (block * THREADS + thread) // width)
                    j = T.axis.spatial(width, (block * THREADS + thread) % width)
                    if gather:
                        target[i, j] = source[index[i], j]
                    else:
                        target[index[i], j] = source[i, j]

    return copy_rows
