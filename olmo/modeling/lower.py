"""Lowering: from a compile spec to an IRModule that depends on the target's kind alone.

The module holds no window: bounds, parameters and sizes are in the metadata, so the windows of one
model share one module.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json
from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax, tirx

from olmo.configuration.compile_spec import CompileSpec
from olmo.errors import unknown
from olmo.modeling import canonical_ir
from olmo.modeling.entrypoints import module_spec
from olmo.modeling.logit_functions import logit_functions
from olmo.modeling.lowering_target import LOWERING_TARGETS, is_gpu
from olmo.modeling.model import OLMo
from olmo.modeling.pipeline_stages import split_stages
from olmo.modeling.shard_functions import TAKE_INDICES, shard_functions, with_given_indices
from olmo.modeling.tensor_expression import made_once
from olmo.operators.gpu_logit_functions import gpu_logit_functions
from olmo.parallel import Division, Placed, placed


def lower(spec: CompileSpec, kind: str) -> tuple[bytes, bytes]:
    """Return the lowered module as canonical JSON (`olmo.modeling.canonical_ir`) and its metadata as JSON.

    The bytes depend on `spec` and `kind` alone: not on the process, the machine, or the names of
    local variables in the model.

    Raises:
        OlmoError: no such target kind.
    """
    if kind not in LOWERING_TARGETS:
        raise unknown("target kind", kind, LOWERING_TARGETS)
    target = tvm.target.Target(dict(LOWERING_TARGETS[kind]))
    with target, tvm.transform.PassContext(opt_level=3):
        # GPUs multiply narrow states several times faster, and MLC's libraries for them do so.
        states = spec.quantization.model_dtype if is_gpu(target) else "float32"
        model = OLMo(spec.config, spec.quantization, states)
        with made_once():
            module, _, _ = model.export_tvm(spec=module_spec(model), allow_extern=True)
        functions = gpu_logit_functions if is_gpu(target) else logit_functions
        module = _with_functions(module, spec, model.dtype, functions(model.dtype))
        for lowering in _passes():
            module = lowering(module)
    return canonical_ir.dump(module), metadata(spec)


def _with_functions(
    module: tvm.IRModule, spec: CompileSpec, dtype: str, functions: Mapping[str, tirx.PrimFunc]
) -> tvm.IRModule:
    """Add functions that are no methods of the model; for several devices, those that they need."""
    config = spec.config
    divisions = [p.division for p in _placed(spec) if p.division is not None]
    added = {**functions, **shard_functions(divisions)}
    if config.pipeline_parallel_stages > 1:
        module = split_stages(module)
    if config.devices > 1:
        by_index = {name: added.pop(name) for name in TAKE_INDICES}
        module = with_given_indices(module, by_index, config.hidden_size, dtype)
    for name, function in added.items():
        module[name] = function
    return module


def _passes() -> list[tvm.transform.Pass]:
    passes = relax.transform
    return [
        relax.backend.DispatchSortScan(),
        passes.LegalizeOps(),
        passes.AnnotateTIROpPattern(),
        passes.FuseOps(),
        passes.FuseTIR(),
        passes.DeadCodeElimination(),
    ]


def _placed(spec: CompileSpec) -> tuple[Placed, ...]:
    return placed(spec.config, spec.quantization)


def metadata(spec: CompileSpec) -> bytes:
    """Return what `_metadata()` of the library says, but for `memory_usage`, as canonical JSON."""
    config = spec.config
    content = {
        "model_type": spec.model_type,
        "quantization": spec.quantization.name,
        "context_window_size": config.context_window_size,
        "sliding_window_size": spec.sliding_window_size,
        "attention_sink_size": spec.attention_sink_size,
        "prefill_chunk_size": config.prefill_chunk_size,
        "tensor_parallel_shards": config.tensor_parallel_shards,
        "pipeline_parallel_stages": config.pipeline_parallel_stages,
        "disaggregation": False,
        "kv_state_kind": "kv_cache",
        "max_batch_size": config.max_batch_size,
        "active_vocab_size": spec.active_vocab_size,
        "model_task": spec.model_task,
        "params": [
            {
                "name": tensor.local.name,
                "shape": list(tensor.local.shape),
                "dtype": tensor.local.dtype,
                "preprocs": [] if tensor.division is None else [_preprocessing(tensor.division)],
                "pipeline_stages": list(tensor.stages),
            }
            for tensor in _placed(spec)
        ],
        "kv_cache": {
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads // config.tensor_parallel_shards,
            "num_key_value_heads": config.num_key_value_heads // config.tensor_parallel_shards,
            "head_dim": config.head_dim,
        },
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _preprocessing(division: Division) -> dict[str, Any]:
    """Return how MLC's runtime makes the parts of a whole tensor."""
    return {
        "func_name": division.function,
        "in_shape": list(division.whole.shape),
        "out_shape": [division.shards, *division.part.shape],
        "out_dtype": division.whole.dtype,
    }
