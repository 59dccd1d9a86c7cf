"""The functions of GPU libraries that sample, as rows of the table in `olmo.modeling.entrypoints`.

Names and signatures are MLC's. `V` is the vocabulary; probabilities are float32, tokens int32.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from typing import Any

import tvm
from tvm import te
from tvm.relax.frontend.nn import Tensor, op

from olmo.modeling.entry_point import Argument, EntryPoint
from olmo.modeling.model import OLMo
from olmo.operators import gpu_sampling, webgpu_sort

_PROBS: Argument = (("batch_size", "V"), "float32")
_TOKENS: Argument = (("batch_size", "V"), "int32")
_OF_BATCH: Argument = (("batch_size",), "float32")
_UNIFORM: Argument = (("num_samples",), "float32")
_INDICES: Argument = (("num_samples",), "int32")
_TREE: Argument = (("num_nodes",), "int32")


def _argsort(model: OLMo, probs: Tensor) -> tuple[Tensor, Tensor]:
    if tvm.target.Target.current().kind.name == "webgpu":
        return _webgpu_argsort(model.config.vocab_size, probs)
    order = op.argsort(probs, axis=-1, descending=True, dtype="int32")

    def take(p: te.Tensor, o: te.Tensor) -> te.Tensor:
        return te.compute(p.shape, lambda i, j: p[i, o[i, j]], name="take_sorted")

    return op.tensor_expr_op(take, "take_sorted", [probs, order]), order


def _webgpu_argsort(vocab: int, probs: Tensor) -> tuple[Tensor, Tensor]:
    padded = (probs.shape[0], webgpu_sort.padded_length(vocab))
    out = [
        Tensor.placeholder(shape, dtype)
        for shape in (padded, probs.shape)
        for dtype in ("float32", "int32")
    ]
    kernel = webgpu_sort.argsort(vocab)
    _, _, values, order = op.tensor_ir_op(kernel, "argsort_kernel", [probs], out)
    return values, order


def _sample_with_top_p(
    model: OLMo, probs: Tensor, tokens: Tensor, uniform: Tensor, index: Tensor, top_p: Tensor
) -> Tensor:
    kernel = gpu_sampling.sample(model.config.vocab_size, truncated=True)
    out = Tensor.placeholder(index.shape, "int32")
    return op.tensor_ir_op(
        kernel, "sample_with_top_p_kernel", [probs, tokens, uniform, index, top_p], out
    )


def _multinomial(model: OLMo, probs: Tensor, uniform: Tensor, index: Tensor) -> Tensor:
    kernel = gpu_sampling.sample(model.config.vocab_size, truncated=False)
    out = Tensor.placeholder(index.shape, "int32")
    return op.tensor_ir_op(kernel, "multinomial_kernel", [probs, uniform, index], out)


def _take_probs(
    _model: OLMo,
    probs: Tensor,
    tokens: Tensor,
    sample_indices: Tensor,
    sampled: Tensor,
    offsets: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the probabilities of sampled tokens, and probability and token at each offset."""

    def of_samples(p: te.Tensor, i: te.Tensor, s: te.Tensor) -> te.Tensor:
        return te.compute(s.shape, lambda n: p[i[n], s[n]], name="sampled_probs")

    def of_offsets(t: te.Tensor, o: te.Tensor) -> te.Tensor:
        width = t.shape[1]
        return te.compute(o.shape, lambda n: t[o[n] // width, o[n] % width], name="top_tokens")

    def probs_of(p: te.Tensor, o: te.Tensor, t: te.Tensor) -> te.Tensor:
        return te.compute(o.shape, lambda n: p[o[n] // p.shape[1], t[n]], name="top_probs")

    values = op.tensor_expr_op(of_samples, "sampled_probs", [probs, sample_indices, sampled])
    top = op.tensor_expr_op(of_offsets, "top_tokens", [tokens, offsets])
    return values, op.tensor_expr_op(probs_of, "top_probs", [probs, offsets, top]), top


def _verify(model: OLMo, *arguments: Tensor) -> Any:
    kernel = gpu_sampling.verify_drafts(model.config.vocab_size)
    model_probs, parents = arguments[2], arguments[6]
    out = [
        Tensor.placeholder(model_probs.shape, "float32"),
        Tensor.placeholder(parents.shape, "int32"),
    ]
    name = "sampler_verify_draft_tokens_kernel"
    return op.tensor_ir_inplace_op(kernel, name, list(arguments), [2, 6], out)


def _renormalize(model: OLMo, probs: Tensor, top_p: Tensor, _init_pivots: Tensor) -> Tensor:
    kernel = gpu_sampling.renormalize(model.config.vocab_size)
    out = Tensor.placeholder(probs.shape, "float32")
    return op.tensor_ir_op(kernel, "renormalize_by_top_p_kernel", [probs, top_p], out)


# What web-llm samples with. Each function more is a shader that a browser compiles before it begins.
WEB_ENTRY_POINTS = ("argsort_probs", "sample_with_top_p")

SAMPLING_ENTRY_POINTS: tuple[EntryPoint, ...] = (
    EntryPoint("argsort_probs", _argsort, {"probs": _PROBS}, packed=False),
    EntryPoint(
        "sample_with_top_p",
        _sample_with_top_p,
        {
            "sorted_probs": _PROBS,
            "sorted_indices": _TOKENS,
            "uniform_samples": _UNIFORM,
            "sample_indices": _INDICES,
            "top_p": _OF_BATCH,
        },
        packed=False,
    ),
    EntryPoint(
        "multinomial_from_uniform",
        _multinomial,
        {"probs": _PROBS, "uniform_samples": _UNIFORM, "sample_indices": _INDICES},
        packed=False,
    ),
    EntryPoint(
        "sampler_take_probs",
        _take_probs,
        {
            "unsorted_probs": _PROBS,
            "sorted_indices": _TOKENS,
            "sample_indices": _INDICES,
            "sampling_result": _INDICES,
            "top_prob_offsets": (("num_positions",), "int32"),
        },
        packed=False,
    ),
    EntryPoint(
        "sampler_verify_draft_tokens",
        _verify,
        {
            "draft_probs": (("num_nodes", "V"), "float32"),
            "draft_tokens": _TREE,
            "model_probs": (("num_nodes", "V"), "float32"),
            "token_tree_first_child": _TREE,
            "token_tree_next_sibling": _TREE,
            "uniform_samples": (("num_nodes",), "float32"),
            "token_tree_parent_ptr": (("batch_size",), "int32"),
        },
        packed=False,
    ),
    EntryPoint(
        "renormalize_by_top_p",
        _renormalize,
        {"probs": _PROBS, "top_p": _OF_BATCH, "init_pivots": (("batch_size", 3), "float32")},
        packed=False,
    ),
)


def sampling_entry_points(target: tvm.target.Target) -> tuple[EntryPoint, ...]:
    """Return the functions of a GPU's libraries; in a browser only those that web-llm calls."""
    if target.kind.name != "webgpu":
        return SAMPLING_ENTRY_POINTS
    return tuple(row for row in SAMPLING_ENTRY_POINTS if row.name in WEB_ENTRY_POINTS)
