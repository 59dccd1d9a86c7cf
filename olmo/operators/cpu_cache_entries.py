"""What goes into the paged KV cache, for CPUs: keys and values of new tokens, the keys rotated.

Signatures are those of TVM's own kernels (tvm/relax/frontend/nn/llm: position_embedding.py,
_page_kernels.py).
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, C901, N812

from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from olmo.modeling.rope import rotation, with_variables

PAGE_SIZE = 16  # tokens


def split_rotary(
    heads: int,
    kv_heads: int,
    d: int,
    dtype: str,
    theta: float,
    scaling: Mapping[str, Any],
) -> tirx.PrimFunc:
    """Return the split of [rows, heads + 2 kv_heads, d] into q, k, v, with q and k rotated."""
    half = d // 2

    def angle(position, x):
        """Cosine and sine of one angle, with the variables they are written in."""
        return rotation(scaling, position, x, d, theta)

    def cosine(position, x):
        cos, _, variables = angle(position, x)
        return with_variables(cos, variables)

    def sine(position, x):
        _, sin, variables = angle(position, x)
        return with_variables(sin, variables)

    @T.prim_func(s_tir=True)
    def split_rotary_embedding(
        qkv_handle: T.handle,
        position_handle: T.handle,
        q_handle: T.handle,
        k_handle: T.handle,
        v_handle: T.handle,
        apply_rope: T.int64,
    ):
        T.func_attr({"tirx.noalias": True})
        rows, position_at = T.int32(), T.int32()
        qkv = T.match_buffer(qkv_handle, (rows, heads + 2 * kv_heads, d), dtype)
        position = T.match_buffer(position_handle, (rows,), "int32", elem_offset=position_at)
        q = T.match_buffer(q_handle, (rows, heads, d), dtype)
        k = T.match_buffer(k_handle, (rows, kv_heads, d), dtype)
        v = T.match_buffer(v_handle, (rows, kv_heads, d), dtype)
        for i in T.parallel(rows):
            with T.sblock("rotary"):
                T.reads()
                T.writes()
                cos = T.sblock_alloc_buffer((half,), "float32")
                sin = T.sblock_alloc_buffer((half,), "float32")
                for x in T.serial(half):
                    cos[x] = T.if_then_else(
                        apply_rope > 0, cosine(T.cast(position[i], "float32"), x), T.float32(1)
                    )
                    sin[x] = T.if_then_else(
                        apply_rope > 0, sine(T.cast(position[i], "float32"), x), T.float32(0)
                    )
                for h in T.serial(heads):
                    for x in T.vectorized(half):
                        q[i, h, x] = _turned(qkv, i, h, x, x + half, cos[x], -sin[x], dtype)
                    for x in T.vectorized(half):
                        q[i, h, x + half] = _turned(qkv, i, h, x + half, x, cos[x], sin[x], dtype)
                for h in T.serial(kv_heads):
                    for x in T.vectorized(half):
                        k[i, h, x] = _turned(qkv, i, heads + h, x, x + half, cos[x], -sin[x], dtype)
                    for x in T.vectorized(half):
                        k[i, h, x + half] = _turned(
                            qkv, i, heads + h, x + half, x, cos[x], sin[x], dtype
                        )
                    for x in T.vectorized(d):
                        v[i, h, x] = qkv[i, heads + kv_heads + h, x]

    return split_rotary_embedding


def append(kv_heads: int, d: int, dtype: str) -> tirx.PrimFunc:
    """Return the copy of new keys and values into their slots; position -1 is no slot."""

    @T.prim_func(s_tir=True)
    def kv_cache_append(
        pages_handle: T.handle,
        k_handle: T.handle,
        v_handle: T.handle,
        position_handle: T.handle,
    ):
        T.func_attr({"tirx.noalias": True})
        rows, pages_held, pages_at = T.int64(), T.int64(), T.int64()
        position_at = T.int32()
        pages = T.match_buffer(
            pages_handle, (pages_held, 2, kv_heads, PAGE_SIZE, d), dtype, elem_offset=pages_at
        )
        k = T.match_buffer(k_handle, (rows, kv_heads, d), dtype)
        v = T.match_buffer(v_handle, (rows, kv_heads, d), dtype)
        position = T.match_buffer(position_handle, (rows,), "int32", elem_offset=position_at)
        for i, h in T.grid(rows, kv_heads):
            with T.sblock("append"):
                T.reads()
                T.writes()
                at: T.let[T.int32] = position[i]
                if at != -1:
                    for x in T.vectorized(d):
                        pages[at // PAGE_SIZE, 0, h, at % PAGE_SIZE, x] = k[i, h, x]
                    for x in T.vectorized(d):
                        pages[at // PAGE_SIZE, 1, h, at % PAGE_SIZE, x] = v[i, h, x]

    return kv_cache_append


def _turned(qkv, i, h, x, other, cos, sin, dtype: str):
    """Return one rotated element: x cos + other sin."""
    return T.cast(
        T.cast(qkv[i, h, x], "float32") * cos + T.cast(qkv[i, h, other], "float32") * sin, dtype
    )
