"""Lowering: from a compile spec to an IRModule that depends on the target's kind alone.

The module holds no window: bounds, parameters and sizes are in the metadata, so the windows of one
model share one module.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json

import tvm
from tvm import relax

from olmo import canonical_ir
from olmo.compile_spec import CompileSpec
from olmo.entrypoints import module_spec
from olmo.errors import OlmoError, unknown
from olmo.gpu_logit_functions import gpu_logit_functions
from olmo.logit_functions import logit_functions
from olmo.lowering_target import LOWERING_TARGETS, is_gpu
from olmo.model import OLMo
from olmo.quantization import quantization
from olmo.weights import parameters

# Quantizations that the layers compute, each with numeric tests.
COMPILED = (
    "q0f16",
    "q0bf16",
    "q0f32",
    "q3f16_0",
    "q3f16_1",
    "q4f16_0",
    "q4f16_1",
    "q4f16_2",
    "q4bf16_0",
    "q4bf16_1",
    "q4f32_1",
    "q4f16_awq",
    "q4f16_autoawq",
    "e5m2_e5m2_f16",
    "e4m3_e4m3_f16",
    "e4m3_e4m3_f16_max_calibrate",
)


def lower(spec: CompileSpec, kind: str) -> tuple[bytes, bytes]:
    """Return the lowered module as canonical JSON (`olmo.canonical_ir`) and its metadata as JSON.

    The bytes depend on `spec` and `kind` alone: not on the process, the machine, or the names of
    local variables in the model.

    Raises:
        OlmoError: no such target kind, or a configuration that cannot be compiled.
    """
    if kind not in LOWERING_TARGETS:
        raise unknown("target kind", kind, LOWERING_TARGETS)
    _check(spec)
    target = tvm.target.Target(dict(LOWERING_TARGETS[kind]))
    with target, tvm.transform.PassContext(opt_level=3):
        model = OLMo(spec.config, quantization(spec.quantization))
        module, _, _ = model.export_tvm(spec=module_spec(model), allow_extern=True)
        functions = gpu_logit_functions if is_gpu(target) else logit_functions
        for name, function in functions(model.dtype).items():
            module[name] = function
        for lowering in _passes():
            module = lowering(module)
    return canonical_ir.dump(module), metadata(spec)


def _check(spec: CompileSpec) -> None:
    """Refuse what the model here does not compute, rather than compile something else.

    Raises:
        OlmoError: such a field, named.
    """
    for name, plain in (
        ("tensor_parallel_shards", 1),
        ("pipeline_parallel_stages", 1),
    ):
        value = getattr(spec.config, name)
        if value != plain:
            raise OlmoError(
                f"{name} {value!r} cannot be compiled", f"only {name} {plain!r} is supported"
            )
    if spec.quantization not in COMPILED:
        raise OlmoError(
            f"quantization {spec.quantization!r} cannot be compiled",
            f"choose {', '.join(COMPILED)}",
        )


def _passes() -> list[tvm.transform.Pass]:
    passes = relax.transform
    return [
        passes.LegalizeOps(),
        passes.AnnotateTIROpPattern(),
        passes.FuseOps(),
        passes.FuseTIR(),
        passes.DeadCodeElimination(),
    ]


def metadata(spec: CompileSpec) -> bytes:
    """Return what `_metadata()` of the library says, but for `memory_usage`, as canonical JSON."""
    config = spec.config
    content = {
        "model_type": spec.model_type,
        "quantization": spec.quantization,
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
                "name": parameter.name,
                "shape": list(parameter.shape),
                "dtype": parameter.dtype,
                "preprocs": [],
                "pipeline_stages": [0],
            }
            for parameter in parameters(config, quantization(spec.quantization))
        ],
        "kv_cache": {
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
        },
    }
    return json.dumps(content, separators=(",", ":")).encode()
