"""Attention over the paged KV cache, for CPUs.

Scores and sums are float32 whatever the cache's dtype is. One task of the thread pool is one head
of one row; keys come in blocks with an online softmax (Milakov and Gimelshein, arXiv:1805.02867).
The logarithm of a sum of exponentials is to base 2, as TVM's cache expects when it merges parts.

Signatures are those of TVM's own kernels (tvm/relax/frontend/nn/llm: _prefill_kernels.py,
_decode_kernels.py). Rotary embedding inside attention (`rotary_mode` 1) is never asked for: keys are
rotated before they are stored (`olmo.operators.cpu_cache_entries`).
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, ARG001, C901, N812, PLR0912

import math
from collections.abc import Callable

from tvm import tirx
from tvm.script import tirx as T

from olmo.operators.cpu_cache_entries import PAGE_SIZE

BLOCK = 16  # keys per step of the online softmax
LANES = 16  # partial sums of a dot product; a power of two
NOTHING = -5e4  # TVM's logarithm of an empty sum
LOG2_E = math.log2(math.e)


def ragged_prefill(heads: int, kv_heads: int, d: int, dtype: str) -> tirx.PrimFunc:
    """Return the attention of new tokens among themselves, causal within each sequence."""
    attend = _attend(
        d,
        locate=lambda _table, _info, first, _b, j: (first + j, 0),
        key=lambda keys, at, h, x: keys[at[0], h, x],
        value=lambda values, at, h, x: values[at[0], h, x],
    )

    @T.prim_func(s_tir=True)
    def attention_prefill_ragged(
        q_handle: T.handle,
        q_indptr_handle: T.handle,
        k_handle: T.handle,
        v_handle: T.handle,
        kv_indptr_handle: T.handle,
        q_rope_position_handle: T.handle,
        k_rope_offset_handle: T.handle,
        output_handle: T.handle,
        lse_handle: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.noalias": True})
        batch, rows, kv_rows = T.int32(), T.int32(), T.int32()
        q_indptr_at, kv_indptr_at, position_at, offset_at = (
            T.int32(),
            T.int32(),
            T.int32(),
            T.int32(),
        )
        q = T.match_buffer(q_handle, (rows, heads, d), dtype)
        q_indptr = T.match_buffer(q_indptr_handle, (batch + 1,), "int32", elem_offset=q_indptr_at)
        k = T.match_buffer(k_handle, (kv_rows, kv_heads, d), dtype)
        v = T.match_buffer(v_handle, (kv_rows, kv_heads, d), dtype)
        kv_indptr = T.match_buffer(
            kv_indptr_handle, (batch + 1,), "int32", elem_offset=kv_indptr_at
        )
        T.match_buffer(q_rope_position_handle, (rows,), "int32", elem_offset=position_at)
        T.match_buffer(k_rope_offset_handle, (batch,), "int32", elem_offset=offset_at)
        output = T.match_buffer(output_handle, (rows, heads, d), dtype)
        lse = T.match_buffer(lse_handle, (rows, heads), "float32")
        for b in T.serial(batch):
            # Heads are the outer part of a task's number: every thread gets early and late rows.
            for task in T.parallel((q_indptr[b + 1] - q_indptr[b]) * heads):
                with T.sblock("attention"):
                    T.reads()
                    T.writes()
                    n: T.let[T.int32] = q_indptr[b + 1] - q_indptr[b]
                    h: T.let[T.int32] = task // n
                    i: T.let[T.int32] = task % n
                    count: T.let[T.int32] = kv_indptr[b + 1] - kv_indptr[b]
                    visible: T.let[T.int32] = _visible(causal, i, n, count)
                    attend(
                        q, k, v, q_indptr, q_indptr, output, lse,
                        q_indptr[b] + i, h, h // (heads // kv_heads), b, kv_indptr[b], visible,
                        sm_scale,
                    )  # fmt: skip

    return attention_prefill_ragged


def paged_prefill(heads: int, kv_heads: int, d: int, dtype: str, *, sliding: bool) -> tirx.PrimFunc:
    """Return the attention of new tokens to the keys that are in the cache already."""
    attend = _attend(d, *_paged(sliding))

    @T.prim_func(s_tir=True)
    def attention_prefill_paged(
        q_handle: T.handle,
        q_indptr_handle: T.handle,
        pages_handle: T.handle,
        page_indptr_handle: T.handle,
        page_values_handle: T.handle,
        length_info_handle: T.handle,
        k_rope_offset_handle: T.handle,
        q_rope_position_handle: T.handle,
        output_handle: T.handle,
        lse_handle: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.noalias": True})
        batch, rows, used, pages_held = T.int32(), T.int32(), T.int32(), T.int32()
        pages_at = T.int64()
        q_indptr_at, indptr_at, values_at = T.int32(), T.int32(), T.int32()
        offset_at, position_at, info_at = T.int32(), T.int32(), T.int32()
        q = T.match_buffer(q_handle, (rows, heads, d), dtype)
        q_indptr = T.match_buffer(q_indptr_handle, (batch + 1,), "int32", elem_offset=q_indptr_at)
        pages = T.match_buffer(
            pages_handle, (pages_held, 2, kv_heads, PAGE_SIZE, d), dtype, elem_offset=pages_at
        )
        indptr = T.match_buffer(page_indptr_handle, (batch + 1,), "int32", elem_offset=indptr_at)
        values = T.match_buffer(page_values_handle, (used,), "int32", elem_offset=values_at)
        T.match_buffer(k_rope_offset_handle, (batch,), "int32", elem_offset=offset_at)
        T.match_buffer(q_rope_position_handle, (rows,), "int32", elem_offset=position_at)
        output = T.match_buffer(output_handle, (rows, heads, d), dtype)
        lse = T.match_buffer(lse_handle, (rows, heads), "float32")
        info = _length_info(length_info_handle, batch, sliding, info_at)
        for b in T.serial(batch):
            for task in T.parallel((q_indptr[b + 1] - q_indptr[b]) * heads):
                with T.sblock("attention"):
                    T.reads()
                    T.writes()
                    n: T.let[T.int32] = q_indptr[b + 1] - q_indptr[b]
                    h: T.let[T.int32] = task // n
                    i: T.let[T.int32] = task % n
                    count: T.let[T.int32] = _cached(indptr, info, b, sliding)
                    visible: T.let[T.int32] = _visible(causal, i, n, count)
                    attend(
                        q, pages, pages, values, info, output, lse,
                        q_indptr[b] + i, h, h // (heads // kv_heads), b, indptr[b], visible,
                        sm_scale,
                    )  # fmt: skip

    return attention_prefill_paged


def paged_decode(heads: int, kv_heads: int, d: int, dtype: str, *, sliding: bool) -> tirx.PrimFunc:
    """Return the attention of one new token per sequence to all keys of the sequence."""
    attend = _attend(d, *_paged(sliding))

    @T.prim_func(s_tir=True)
    def attention_decode_paged(
        q_handle: T.handle,
        pages_handle: T.handle,
        page_indptr_handle: T.handle,
        page_values_handle: T.handle,
        length_info_handle: T.handle,
        k_rope_offset_handle: T.handle,
        q_rope_position_handle: T.handle,
        output_handle: T.handle,
        lse_handle: T.handle,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.noalias": True})
        batch, used, pages_held = T.int32(), T.int32(), T.int32()
        pages_at = T.int64()
        indptr_at, values_at = T.int32(), T.int32()
        offset_at, position_at, info_at = T.int32(), T.int32(), T.int32()
        q = T.match_buffer(q_handle, (batch, heads, d), dtype)
        pages = T.match_buffer(
            pages_handle, (pages_held, 2, kv_heads, PAGE_SIZE, d), dtype, elem_offset=pages_at
        )
        indptr = T.match_buffer(page_indptr_handle, (batch + 1,), "int32", elem_offset=indptr_at)
        values = T.match_buffer(page_values_handle, (used,), "int32", elem_offset=values_at)
        T.match_buffer(k_rope_offset_handle, (batch,), "int32", elem_offset=offset_at)
        T.match_buffer(q_rope_position_handle, (batch,), "int32", elem_offset=position_at)
        output = T.match_buffer(output_handle, (batch, heads, d), dtype)
        lse = T.match_buffer(lse_handle, (batch, heads), "float32")
        info = _length_info(length_info_handle, batch, sliding, info_at)
        for task in T.parallel(batch * heads):
            with T.sblock("attention"):
                T.reads()
                T.writes()
                b: T.let[T.int32] = task // heads
                h: T.let[T.int32] = task % heads
                count: T.let[T.int32] = _cached(indptr, info, b, sliding)
                attend(
                    q, pages, pages, values, info, output, lse,
                    b, h, h // (heads // kv_heads), b, indptr[b], count, sm_scale,
                )  # fmt: skip

    return attention_decode_paged


def merge(d: int, dtype: str) -> tirx.PrimFunc:
    """Return the in-place merge of two part results [rows, heads, d] with their logarithms."""

    @T.prim_func(s_tir=True)
    def attention_merge(
        v_handle: T.handle,
        s_handle: T.handle,
        v_other_handle: T.handle,
        s_other_handle: T.handle,
    ):
        T.func_attr({"tirx.noalias": True})
        rows, heads = T.int32(), T.int32()
        v = T.match_buffer(v_handle, (rows, heads, d), dtype)
        s = T.match_buffer(s_handle, (rows, heads), "float32")
        v_other = T.match_buffer(v_other_handle, (rows, heads, d), dtype)
        s_other = T.match_buffer(s_other_handle, (rows, heads), "float32")
        for i in T.parallel(rows):
            for h in T.serial(heads):
                with T.sblock("merge"):
                    T.reads()
                    T.writes()
                    largest: T.let[T.float32] = T.max(s[i, h], s_other[i, h])
                    weight: T.let[T.float32] = T.exp2(s[i, h] - largest)
                    weight_other: T.let[T.float32] = T.exp2(s_other[i, h] - largest)
                    total: T.let[T.float32] = weight + weight_other
                    for x in T.vectorized(d):
                        v[i, h, x] = T.cast(
                            T.cast(v[i, h, x], "float32") * (weight / total)
                            + T.cast(v_other[i, h, x], "float32") * (weight_other / total),
                            dtype,
                        )
                    s[i, h] = T.log2(total) + largest

    return attention_merge


def _attend(d: int, locate: Callable, key: Callable, value: Callable):
    """Return the macro by which one head of one row attends to its first `visible` keys.

    `locate` finds the j-th key of sequence b, `key` and `value` load element x of what it found.
    """
    lanes = math.gcd(d, LANES)

    @T.macro
    def attend(
        q, keys, values, table, info, output, lse, row, h, kv_h, b, first, visible, scale
    ):  # fmt: skip
        query = T.sblock_alloc_buffer((d,), "float32")
        total = T.sblock_alloc_buffer((d,), "float32")
        part = T.sblock_alloc_buffer((lanes,), "float32")
        score = T.sblock_alloc_buffer((BLOCK,), "float32")
        largest = T.sblock_alloc_buffer((2,), "float32")
        weights = T.sblock_alloc_buffer((1,), "float32")
        for x in T.vectorized(d):
            query[x] = T.cast(q[row, h, x], "float32") * (scale * T.float32(LOG2_E))
        for x in T.vectorized(d):
            total[x] = T.float32(0)
        largest[0] = T.float32(NOTHING)
        weights[0] = T.float32(0)
        for block in T.serial(T.ceildiv(visible, BLOCK)):
            largest[1] = largest[0]
            for j in T.serial(T.min(visible - block * BLOCK, BLOCK)):
                for x in T.vectorized(lanes):
                    part[x] = T.float32(0)
                for step in T.serial(d // lanes):
                    for x in T.vectorized(lanes):
                        part[x] = part[x] + query[step * lanes + x] * T.cast(
                            key(
                                keys,
                                locate(table, info, first, b, block * BLOCK + j),
                                kv_h,
                                step * lanes + x,
                            ),
                            "float32",
                        )
                score[j] = T.float32(0)
                for x in T.unroll(lanes):
                    score[j] = score[j] + part[x]
                largest[1] = T.max(largest[1], score[j])
            weights[0] = weights[0] * T.exp2(largest[0] - largest[1])
            for x in T.vectorized(d):
                total[x] = total[x] * T.exp2(largest[0] - largest[1])
            largest[0] = largest[1]
            for j in T.serial(T.min(visible - block * BLOCK, BLOCK)):
                score[j] = T.exp2(score[j] - largest[0])
                weights[0] = weights[0] + score[j]
                for x in T.vectorized(d):
                    total[x] = total[x] + score[j] * T.cast(
                        value(
                            values,
                            locate(table, info, first, b, block * BLOCK + j),
                            kv_h,
                            x,
                        ),
                        "float32",
                    )
        if visible > 0:
            for x in T.vectorized(d):
                output[row, h, x] = T.cast(total[x] / weights[0], output.dtype)
            lse[row, h] = largest[0] + T.log2(weights[0])
        else:
            for x in T.vectorized(d):
                output[row, h, x] = _zero(total[x], output.dtype)
            lse[row, h] = T.float32(NOTHING)

    return attend


def _paged(sliding: bool) -> tuple[Callable, Callable, Callable]:
    def locate(table, info, first, b, j):
        if sliding:  # after the attention sink, skip what the window has left behind
            sink, start = info[2, b], info[1, b]
            j = T.if_then_else(j < sink, j, j - sink + start)
        return table[first + j // PAGE_SIZE], j % PAGE_SIZE

    def key(pages, at, h, x):
        return pages[at[0], 0, h, at[1], x]

    def value(pages, at, h, x):
        return pages[at[0], 1, h, at[1], x]

    return locate, key, value


def _length_info(handle, batch, sliding: bool, offset):
    """Return [batch] last page lengths, or [3, batch] with window starts and sink lengths."""
    shape = (3, batch) if sliding else (batch,)
    return T.match_buffer(handle, shape, "int32", elem_offset=offset)


def _cached(indptr, info, b, sliding: bool):
    """Return the number of keys of sequence b that take part."""
    pages = indptr[b + 1] - indptr[b]
    full = (pages - 1) * PAGE_SIZE
    count = full + info[0, b] - info[1, b] + info[2, b] if sliding else full + info[b]
    return T.if_then_else(pages > 0, count, 0)


def _visible(causal, i, n, count):
    """Return how many of `count` keys row i of n may see."""
    seen = T.min(T.max(count - n + i + 1, 0), count)
    return T.if_then_else(causal > 0, seen, count)


def _zero(total, dtype):
    """Return zero; as the sum of nothing in bfloat16, of which TVM cannot store constant vectors."""
    return T.cast(total if str(dtype) == "bfloat16" else T.float32(0), dtype)
