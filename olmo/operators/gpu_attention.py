"""The kernels of the paged KV cache for GPUs: TVM's own, without libraries of any vendor.

Two are written here: the rotary embedding, since TVM's lacks kinds of scaling (`olmo.modeling.rope`), and
the merge of part results, since TVM's is right only where a head's threads run in lockstep.
"""

# TVMScript is parsed as TIR, not run as Python: its annotations and names are TIR's.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, N812

from collections.abc import Mapping
from typing import Any

import tvm
from tvm import tirx
from tvm.relax.frontend.nn.llm import kv_cache as kernels
from tvm.script import tirx as T

from olmo.modeling.rope import rotation, with_variables

THREADS = 256  # of a block: no target allows fewer


def attention_kernels(
    heads: int, kv_heads: int, d: int, dtype: str, target: tvm.target.Target
) -> Mapping[str, tirx.PrimFunc]:
    """Return the kernels that attend and merge, by name, within the launch limits of `target`."""
    shape = (kv_heads, heads, d, dtype)

    # No kernel of attention rotates: queries and keys come rotated, so none is told of scaling.
    def prefill(*, sliding: bool) -> tirx.PrimFunc:
        return kernels._attention_prefill(*shape, sliding, {}, target)  # noqa: SLF001  as below

    def decode(*, sliding: bool) -> tirx.PrimFunc:
        return kernels._attention_decode(*shape, sliding, {}, target)  # noqa: SLF001  as below

    return {
        "attention_prefill_ragged": kernels._attention_prefill_ragged(  # noqa: SLF001  TVM's public class takes no others
            kv_heads, heads, d, d, dtype, {}, target
        ),
        "attention_prefill": prefill(sliding=False),
        "attention_decode": decode(sliding=False),
        "attention_prefill_sliding_window": prefill(sliding=True),
        "attention_decode_sliding_window": decode(sliding=True),
        "attention_tree_paged": kernels.tree_attn_with_paged_kv_cache(*shape, {}, target),
        "attention_tree": kernels.tree_attn(*shape, {}, target),
        "attention_merge": merge(heads, d, dtype),
    }


def merge(heads: int, d: int, dtype: str) -> tirx.PrimFunc:
    """Return the in-place merge of two part results [rows, heads, d] with their logarithms.

    One thread of a head reads and writes its logarithms, the others get the weights of the parts
    from it. In TVM's kernel each thread reads them, and writes the merged one without a barrier:
    subgroups of a GPU that come later find it instead of the part's.
    """
    threads = min(d, THREADS)

    @T.prim_func(s_tir=True)
    def attention_merge(
        v_handle: T.handle,
        s_handle: T.handle,
        v_other_handle: T.handle,
        s_other_handle: T.handle,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        rows = T.int32()
        v = T.match_buffer(v_handle, (rows, heads, d), dtype)
        s = T.match_buffer(s_handle, (rows, heads), "float32")
        v_other = T.match_buffer(v_other_handle, (rows, heads, d), dtype)
        s_other = T.match_buffer(s_other_handle, (rows, heads), "float32")
        for i in T.thread_binding(rows, thread="blockIdx.x"):
            for h in T.thread_binding(heads, thread="blockIdx.y"):
                for thread in T.thread_binding(threads, thread="threadIdx.x"):
                    with T.sblock("merge"):
                        T.reads()
                        T.writes()
                        weight = T.sblock_alloc_buffer((2,), "float32", scope="shared")
                        if thread == 0:
                            largest: T.let[T.float32] = T.max(s[i, h], s_other[i, h])
                            own: T.let[T.float32] = T.exp2(s[i, h] - largest)
                            other: T.let[T.float32] = T.exp2(s_other[i, h] - largest)
                            weight[0] = own / (own + other)
                            weight[1] = other / (own + other)
                            s[i, h] = T.log2(own + other) + largest
                        T.tvm_storage_sync("shared")
                        for n in T.serial(T.ceildiv(d, threads)):
                            if n * threads + thread < d:
                                v[i, h, n * threads + thread] = T.cast(
                                    T.cast(v[i, h, n * threads + thread], "float32") * weight[0]
                                    + T.cast(v_other[i, h, n * threads + thread], "float32")
                                    * weight[1],
                                    dtype,
                                )

    return attention_merge


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

    def turned(qkv, i, h, x, position):
        """Element x of a head, rotated with its partner half a head away."""
        cos, sin, variables = rotation(scaling, position[i].astype("float32"), x % half, d, theta)
        partner = tirx.if_then_else(x < half, -qkv[i, h, x + half], qkv[i, h, x - half])
        value = qkv[i, h, x].astype("float32") * cos + partner.astype("float32") * sin
        return with_variables(value.astype(dtype), variables)

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
        for axes in T.grid(rows, heads + 2 * kv_heads, d):
            with T.sblock("rotary"):
                i, h, x = T.axis.remap("SSS", axes)
                if h < heads:
                    q[i, h, x] = T.if_then_else(
                        apply_rope > 0, turned(qkv, i, h, x, position), qkv[i, h, x]
                    )
                elif h < heads + kv_heads:
                    k[i, h - heads, x] = T.if_then_else(
                        apply_rope > 0, turned(qkv, i, h, x, position), qkv[i, h, x]
                    )
                else:
                    v[i, h - heads - kv_heads, x] = qkv[i, h, x]

    return split_rotary_embedding
