"""The functions of a library: one row each, with its arguments and what it computes.

Names and signatures are MLC's; `H` below is the hidden size, `V` the vocabulary, `D` the model
dtype. Functions of a row take the packed parameters last where `packed` is set.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import functools
from typing import Any

import tvm
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from olmo.configuration.config import OLMoConfig
from olmo.modeling import kv_cache as cache
from olmo.modeling.entry_point import INT, KV, Argument, EntryPoint
from olmo.modeling.lowering_target import is_gpu
from olmo.modeling.model import OLMo
from olmo.modeling.sampling_entrypoints import sampling_entry_points
from olmo.modeling.tensor_expression import tensor_expression

GREEDY_TEMPERATURE = 1e-5  # at or below it, sampling is greedy


def _hidden(model: OLMo, embeddings: Tensor, kv: PagedKVCache) -> Tensor:
    """Run the layers over [b, n, H] as rows: [b * n, H]."""
    b, n, width = embeddings.shape
    return model.hidden_states(op.reshape(embeddings, (b * n, width)), kv)


def _take_rows(x: Tensor, positions: Tensor) -> Tensor:
    def rows(a: te.Tensor, p: te.Tensor) -> te.Tensor:
        return te.compute((p.shape[0], a.shape[1]), lambda i, k: a[p[i], k], name="take_rows")

    return tensor_expression(rows, "take_rows", [x, positions])


def _last_row(x: Tensor) -> Tensor:
    def last(a: te.Tensor) -> te.Tensor:
        return te.compute((1, a.shape[1]), lambda _, k: a[a.shape[0] - 1, k], name="last_row")

    return tensor_expression(last, "last_row", [x])


def _embed(model: OLMo, input_ids: Tensor) -> Tensor:
    return model.embed(input_ids)


def _get_logits(model: OLMo, hidden_states: Tensor) -> Tensor:
    return model.logits(hidden_states)


def _prefill(model: OLMo, input_embed: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
    last = _last_row(_hidden(model, input_embed, kv))
    return op.reshape(model.logits(last), (1, 1, model.config.vocab_size)), kv


def _batch_prefill(
    model: OLMo, input_embeds: Tensor, logit_positions: Tensor, kv: PagedKVCache
) -> tuple[Tensor, PagedKVCache]:
    chosen = _take_rows(_hidden(model, input_embeds, kv), model.agreed(logit_positions))
    shape = (1, logit_positions.shape[0], model.config.vocab_size)
    return op.reshape(model.logits(chosen), shape), kv


def _every_row(model: OLMo, input_embeds: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
    logits = model.logits(_hidden(model, input_embeds, kv))
    return op.reshape(logits, (*input_embeds.shape[:2], model.config.vocab_size)), kv


def _hidden_states(
    model: OLMo, input_embeds: Tensor, kv: PagedKVCache
) -> tuple[Tensor, PagedKVCache]:
    hidden = op.astype(_hidden(model, input_embeds, kv), model.dtype)
    return op.reshape(hidden, input_embeds.shape), kv


def _select(model: OLMo, hidden_states: Tensor, logit_positions: Tensor) -> Tensor:
    return _take_rows(hidden_states, model.agreed(logit_positions))


def _softmax(_model: OLMo, logits: Tensor, temperature: Tensor) -> Tensor:
    """Return probabilities; a temperature near 0 shares them among the largest logits."""

    def probabilities(x: te.Tensor, t: te.Tensor) -> te.Tensor:
        rows, width = x.shape[0], x.shape[2]
        k = te.reduce_axis((0, width), name="k")
        largest = te.compute((rows,), lambda i: te.max(x[i, 0, k], axis=k), name="largest")

        def weight(i: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
            below = x[i, 0, j] - largest[i]
            is_largest = tirx.if_then_else(below < 0, _f32(0), _f32(1))
            is_warm = t[i] > _f32(GREEDY_TEMPERATURE)
            divisor = tirx.if_then_else(is_warm, t[i], _f32(1))
            return tirx.if_then_else(is_warm, tirx.exp(below / divisor), is_largest)

        weights = te.compute((rows, width), weight, name="weight")
        m = te.reduce_axis((0, width), name="m")
        total = te.compute((rows,), lambda i: te.sum(weights[i, m], axis=m), name="sum")
        return te.compute(x.shape, lambda i, _, j: weights[i, j] / total[i], name="softmax")

    return tensor_expression(probabilities, "softmax_with_temperature", [logits, temperature])


def _f32(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def _create_cache(model: OLMo, *sizes: Any) -> PagedKVCache:
    return cache.create(model.config, model.state_dtype, *sizes)


_ONE: Argument = ((1, 1, "H"), "D")
_CHUNK: Argument = ((1, "seq_len", "H"), "D")
_BATCH: Argument = (("batch_size", 1, "H"), "D")
_ROWS: Argument = (("seq_len", "H"), "D")
_POSITIONS: Argument = (("batch_size",), "int32")

ENTRY_POINTS: tuple[EntryPoint, ...] = (
    EntryPoint("embed", _embed, {"input_ids": (("seq_len",), "int32")}),
    EntryPoint("get_logits", _get_logits, {"hidden_states": _ROWS}),
    EntryPoint("prefill", _prefill, {"input_embed": _CHUNK, "paged_kv_cache": KV}),
    EntryPoint("decode", _every_row, {"input_embed": _ONE, "paged_kv_cache": KV}),
    EntryPoint(
        "batch_prefill",
        _batch_prefill,
        {"input_embeds": _CHUNK, "logit_positions": _POSITIONS, "paged_kv_cache": KV},
    ),
    EntryPoint("batch_decode", _every_row, {"input_embeds": _BATCH, "paged_kv_cache": KV}),
    EntryPoint("batch_verify", _every_row, {"input_embeds": _CHUNK, "paged_kv_cache": KV}),
    EntryPoint(
        "prefill_to_last_hidden_states",
        _hidden_states,
        {"input_embed": _CHUNK, "paged_kv_cache": KV},
    ),
    EntryPoint(
        "decode_to_last_hidden_states",
        _hidden_states,
        {"input_embed": _ONE, "paged_kv_cache": KV},
    ),
    EntryPoint(
        "batch_prefill_to_last_hidden_states",
        _hidden_states,
        {"input_embeds": _CHUNK, "paged_kv_cache": KV},
    ),
    EntryPoint(
        "batch_decode_to_last_hidden_states",
        _hidden_states,
        {"input_embeds": _BATCH, "paged_kv_cache": KV},
    ),
    EntryPoint(
        "batch_verify_to_last_hidden_states",
        _hidden_states,
        {"input_embeds": _CHUNK, "paged_kv_cache": KV},
    ),
    EntryPoint(
        "batch_select_last_hidden_states",
        _select,
        {"hidden_states": _ROWS, "logit_positions": _POSITIONS},
        packed=False,
    ),
    EntryPoint(
        "softmax_with_temperature",
        _softmax,
        {
            "logits": (("batch_size", 1, "V"), "float32"),
            "temperature": (("batch_size",), "float32"),
        },
        packed=False,
    ),
    EntryPoint(
        "create_tir_paged_kv_cache",
        _create_cache,
        {
            "max_batch_size": INT,
            "max_total_seq_len": INT,
            "prefill_chunk_size": INT,
            "page_size": INT,
            "support_sliding_window": INT,
        },
        packed=False,
    ),
)


def module_spec(model: OLMo) -> nn.spec.ModuleSpec:
    """Return the specification by which `model` exports every entry point of the target in scope."""
    target = tvm.target.Target.current()
    rows = [*ENTRY_POINTS, *(sampling_entry_points(target) if is_gpu(target) else ())]
    specs = [_method_spec(model, row) for row in rows]
    return nn.spec.ModuleSpec(model, [row.name for row in rows], specs)


def _method_spec(model: OLMo, row: EntryPoint) -> nn.spec.MethodSpec:
    return nn.spec.MethodSpec(
        functools.partial(row.body, model),
        list(row.arguments),
        [_argument_spec(model.config, model.dtype, a) for a in row.arguments.values()],
        param_mode="packed" if row.packed else "none",
        effect_mode="none",
    )


def _argument_spec(config: OLMoConfig, dtype: str, argument: Argument) -> Any:
    if isinstance(argument, str):
        return nn.spec.Object(object_type=PagedKVCache) if argument == KV else nn.spec.Int()
    shape, element = argument
    sizes = {"H": config.hidden_size, "V": config.vocab_size}
    return nn.spec.Tensor(
        [sizes.get(extent, extent) if isinstance(extent, str) else extent for extent in shape],
        dtype if element == "D" else element,
    )
