"""The paged key-value cache with rotary embedding, as the model's functions create it."""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Mapping

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn import Tensor
from tvm.relax.frontend.nn.llm.kv_cache import (
    AttnKind,
    PagedKVCache,
    RopeMode,
    _compact_kv_copy,
    _compact_kv_copy_cpu,
    _copy_single_page,
    _copy_single_page_cpu,
    _kv_cache_debug_get_kv,
    _kv_cache_transpose_append,
    _kv_cache_transpose_append_mla,
    tree_attn_cpu,
    tree_attn_with_paged_kv_cache_cpu,
)

from olmo.configuration.config import OLMoConfig
from olmo.modeling.lowering_target import is_gpu
from olmo.operators import cpu_attention, cpu_cache_entries, gpu_attention
from olmo.parallel import layer_partition


def create(
    config: OLMoConfig,
    dtype: str,
    max_batch_size: tirx.Var,
    max_total_seq_len: tirx.Var,
    prefill_chunk_size: tirx.Var,
    page_size: tirx.Var,
    support_sliding_window: tirx.Var,
) -> PagedKVCache:
    """Return a cache for one device; sizes are in sequences, tokens, tokens, tokens and 0 or 1.

    A device has its shard's heads, and the layers of its pipeline stage.
    """
    heads = config.num_attention_heads // config.tensor_parallel_shards
    kv_heads = config.num_key_value_heads // config.tensor_parallel_shards
    d, theta = config.head_dim, config.position_embedding_base
    scaling = {} if config.rope_scaling is None else dict(config.rope_scaling)
    layers = config.num_hidden_layers
    target = tvm.target.Target.current()
    on_gpu = is_gpu(target)
    kernels = (
        gpu_attention.attention_kernels(heads, kv_heads, d, dtype, target)
        if on_gpu
        else _cpu_kernels(heads, kv_heads, d, dtype)
    )
    rotary = (gpu_attention if on_gpu else cpu_cache_entries).split_rotary
    copy_page = _copy_single_page if on_gpu else _copy_single_page_cpu
    compact = _compact_kv_copy if on_gpu else _compact_kv_copy_cpu
    limits = (target,) if on_gpu else ()

    def add(function: tirx.PrimFunc, name: str) -> tvm.ir.GlobalVar:
        private = function.without_attr("global_symbol")
        if not on_gpu:
            private = private.with_attr("tirx.is_scheduled", True)
        return relax.BlockBuilder.current().add_func(private, name)

    def tir(name: str) -> relax.Tuple:
        return relax.Tuple([tvm.ir.StringImm("tirx"), add(kernels[name], name)])

    # Argument order of vm.builtin.paged_attention_kv_cache_create
    # (tvm src/runtime/vm/paged_kv_cache.cc).
    return PagedKVCache(
        _expr=relax.call_pure_packed(
            "vm.builtin.paged_attention_kv_cache_create",
            relax.ShapeExpr(
                [
                    max_batch_size,
                    max_total_seq_len,
                    prefill_chunk_size,
                    page_size,
                    support_sliding_window,
                    1024,  # the window of sliding layers, which OLMo has none of
                ]
            ),
            relax.ShapeExpr(list(layer_partition(config))),
            relax.prim_value(heads),
            relax.prim_value(kv_heads),
            relax.prim_value(d),
            relax.prim_value(d),
            relax.ShapeExpr([int(AttnKind.MHA)] * layers),
            relax.prim_value(False),
            relax.prim_value(RopeMode.NORMAL),
            relax.prim_value(1),
            relax.prim_value(theta),
            relax.prim_value(0),
            relax.op.zeros((), dtype),
            add(
                _kv_cache_transpose_append(kv_heads, d, dtype)
                if on_gpu
                else cpu_cache_entries.append(kv_heads, d, dtype),
                "kv_cache_append",
            ),
            add(_kv_cache_transpose_append_mla(d, dtype), "kv_cache_append_mla"),
            tir("attention_prefill_ragged"),
            tir("attention_prefill"),
            tir("attention_decode"),
            tir("attention_prefill_sliding_window"),
            tir("attention_decode_sliding_window"),
            tir("attention_tree_paged"),
            tir("attention_tree"),
            relax.Tuple([]),
            relax.Tuple([add(kernels["attention_merge"], "attention_merge")]),
            add(rotary(heads, kv_heads, d, dtype, theta, scaling), "split_rotary"),
            add(copy_page(kv_heads, page_size, d, dtype, *limits), "kv_cache_copy_page"),
            add(_kv_cache_debug_get_kv(layers, kv_heads, d, dtype), "kv_cache_debug_get_kv"),
            add(compact(kv_heads, d, dtype, *limits), "kv_cache_compact"),
            ty_args=relax.AnyType(),
        ),
        _name="paged_kv_cache",
    )


def _cpu_kernels(heads: int, kv_heads: int, d: int, dtype: str) -> Mapping[str, tirx.PrimFunc]:
    shape = (heads, kv_heads, d, dtype)
    # No kernel of attention rotates: queries and keys come rotated, so none is told of scaling.
    tree: tuple[object, ...] = (kv_heads, heads, d, dtype, {})
    return {
        "attention_prefill_ragged": cpu_attention.ragged_prefill(*shape),
        "attention_prefill": cpu_attention.paged_prefill(*shape, sliding=False),
        "attention_decode": cpu_attention.paged_decode(*shape, sliding=False),
        "attention_prefill_sliding_window": cpu_attention.paged_prefill(*shape, sliding=True),
        "attention_decode_sliding_window": cpu_attention.paged_decode(*shape, sliding=True),
        "attention_tree_paged": tree_attn_with_paged_kv_cache_cpu(*tree),
        "attention_tree": tree_attn_cpu(*tree),
        "attention_merge": cpu_attention.merge(d, dtype),
    }


def attention(
    kv_cache: PagedKVCache, layer: int, qkv: Tensor, query_heads: int, scale: float
) -> Tensor:
    """Append keys and values to the cache and attend: [rows, q + 2 kv heads, d] to [rows, q, d].

    Scores are multiplied by `scale`; rotary embedding is applied to queries and keys.
    """
    rows, _, head_dim = qkv.shape
    out = relax.call_dps_packed(
        "vm.builtin.attention_kv_cache_attention_with_fused_qkv",
        [kv_cache._expr, relax.prim_value(layer), relax.prim_value(scale), qkv._expr],  # noqa: SLF001 - the frontend has no public accessor
        out_ty=relax.TensorType((rows, query_heads, head_dim), qkv.dtype),
    )
    return Tensor(_expr=relax.BlockBuilder.current().emit(out))
