"""Functions that change tensors in place: bias, penalties, masks; gathering of hidden states.

Names and arguments are MLC's. Callers pass tensors, so these are PrimFuncs of the library and no
functions of its virtual machine. Tokens of one call are distinct per sequence, as MLC passes them.
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: N812

from collections.abc import Mapping

from tvm import tirx
from tvm.script import tirx as T

WORD = 32  # bits of a mask's word


def logit_functions(dtype: str) -> Mapping[str, tirx.PrimFunc]:
    """Return the functions by name; hidden states have `dtype`, logits are float32."""
    return {
        "apply_logit_bias_inplace": apply_logit_bias_inplace,
        "apply_penalty_inplace": apply_penalty_inplace,
        "apply_bitmask_inplace": apply_bitmask_inplace,
        "gather_hidden_states": _gather(dtype),
        "scatter_hidden_states": _scatter(dtype),
    }


@T.prim_func(s_tir=True)
def apply_logit_bias_inplace(
    logits_handle: T.handle,  # [batch, vocab]
    position_handle: T.handle,  # [tokens]: the row of logits
    token_handle: T.handle,  # [tokens]
    bias_handle: T.handle,  # [tokens]
) -> None:
    """Add a bias to the logit of a token in a row."""
    T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
    batch, vocab, tokens = T.int32(), T.int32(), T.int32()
    logits = T.match_buffer(logits_handle, (batch, vocab), "float32")
    position = T.match_buffer(position_handle, (tokens,), "int32")
    token = T.match_buffer(token_handle, (tokens,), "int32")
    bias = T.match_buffer(bias_handle, (tokens,), "float32")
    for i in T.serial(tokens):
        with T.sblock("bias"):
            T.reads()
            T.writes()
            logits[position[i], token[i]] = logits[position[i], token[i]] + bias[i]


@T.prim_func(s_tir=True)
def apply_penalty_inplace(
    logits_handle: T.handle,  # [batch, vocab]
    row_handle: T.handle,  # [sequences]: their rows of logits
    position_handle: T.handle,  # [tokens]: the sequence
    token_handle: T.handle,  # [tokens]
    count_handle: T.handle,  # [tokens]: how often the sequence has the token
    penalty_handle: T.handle,  # [sequences, 3]: presence, frequency, repetition
) -> None:
    """Lower the logits of tokens that a sequence has already.

    The repetition penalty comes last: it divides positive logits and multiplies negative ones.
    """
    T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
    batch, vocab, sequences, tokens = T.int32(), T.int32(), T.int32(), T.int32()
    logits = T.match_buffer(logits_handle, (batch, vocab), "float32")
    row = T.match_buffer(row_handle, (sequences,), "int32")
    position = T.match_buffer(position_handle, (tokens,), "int32")
    token = T.match_buffer(token_handle, (tokens,), "int32")
    count = T.match_buffer(count_handle, (tokens,), "int32")
    penalty = T.match_buffer(penalty_handle, (sequences, 3), "float32")
    for i in T.serial(tokens):
        with T.sblock("penalty"):
            T.reads()
            T.writes()
            lowered: T.let[T.float32] = logits[row[position[i]], token[i]] - (
                penalty[position[i], 0] + T.cast(count[i], "float32") * penalty[position[i], 1]
            )
            logits[row[position[i]], token[i]] = T.if_then_else(
                lowered < T.float32(0),
                lowered * penalty[position[i], 2],
                lowered / penalty[position[i], 2],
            )


@T.prim_func(s_tir=True)
def apply_bitmask_inplace(
    logits_handle: T.handle,  # [batch, vocab]
    row_handle: T.handle,  # [sequences]: the rows that have a mask
    mask_handle: T.handle,  # [batch, ceil(vocab / 32)]: the lowest bit is the first token
) -> None:
    """Set the logits of tokens whose bit is 0 to the smallest float32."""
    T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
    batch, vocab, sequences = T.int32(), T.int32(), T.int32()
    logits = T.match_buffer(logits_handle, (batch, vocab), "float32")
    row = T.match_buffer(row_handle, (sequences,), "int32")
    mask = T.match_buffer(mask_handle, (batch, (vocab + (WORD - 1)) // WORD), "int32")
    for i in T.parallel(sequences):
        for j in T.serial(vocab):
            with T.sblock("mask"):
                T.reads()
                T.writes()
                if T.bitwise_and(mask[row[i], j // WORD] >> (j % WORD), 1) == 0:
                    logits[row[i], j] = T.min_value("float32")


def _gather(dtype: str) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def gather_hidden_states(
        source_handle: T.handle,  # [m, width]
        index_handle: T.handle,  # [rows]
        target_handle: T.handle,  # [rows, width]
    ) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        held, rows, width = T.int32(), T.int32(), T.int32()
        source = T.match_buffer(source_handle, (held, width), dtype)
        index = T.match_buffer(index_handle, (rows,), "int32")
        target = T.match_buffer(target_handle, (rows, width), dtype)
        for i in T.parallel(rows):
            for j in T.serial(width):
                with T.sblock("gather"):
                    T.reads()
                    T.writes()
                    target[i, j] = source[index[i], j]

    return gather_hidden_states


def _scatter(dtype: str) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def scatter_hidden_states(
        source_handle: T.handle,  # [rows, width]
        index_handle: T.handle,  # [rows], distinct
        target_handle: T.handle,  # [m, width]
    ) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        held, rows, width = T.int32(), T.int32(), T.int32()
        source = T.match_buffer(source_handle, (rows, width), dtype)
        index = T.match_buffer(index_handle, (rows,), "int32")
        target = T.match_buffer(target_handle, (held, width), dtype)
        for i in T.parallel(rows):
            for j in T.serial(width):
                with T.sblock("scatter"):
                    T.reads()
                    T.writes()
                    target[index[i], j] = source[i, j]

    return scatter_hidden_states
