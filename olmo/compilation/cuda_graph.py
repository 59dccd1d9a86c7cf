"""CUDA graphs: the kernels of a decoding step are recorded once per batch size and then replayed."""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Mapping

import tvm
from tvm import relax

# Functions to record, with the dimensions that a recording is made for each value of.
_RECORDED: Mapping[str, tuple[str, ...]] = {
    "batch_decode": ("batch_size",),
    "batch_decode_to_last_hidden_states": ("batch_size",),
    "batch_verify": ("seq_len",),
    "batch_verify_to_last_hidden_states": ("seq_len",),
}


def with_recordings(module: tvm.IRModule) -> tvm.IRModule:
    """Return the memory-planned `module` with regions that are recorded as CUDA graphs.

    `cuda_graph_alloc_init()` allocates the memory of all recordings, as MLC's engine asks for.
    """
    for variable, function in module.functions_items():
        name = str(variable.name_hint)
        if name in _RECORDED:
            hints = list(_RECORDED[name])
            module[variable] = function.with_attr(
                "relax.rewrite_cuda_graph.capture_symbolic_vars", hints
            )
    with tvm.transform.PassContext.current() as context:
        enabled = {**context.config, "relax.backend.use_cuda_graph": True}
    with tvm.transform.PassContext(opt_level=context.opt_level, config=enabled):
        module = relax.transform.RewriteCUDAGraph()(module)
    allocations = [
        v for v in module.get_global_vars() if v.name_hint.startswith("cuda_graph_alloc")
    ]
    if not allocations:
        return module
    (allocation,) = allocations
    builder = relax.BlockBuilder(module)
    with builder.function("cuda_graph_alloc_init", []):
        builder.emit_func_output(
            relax.op.call_builtin_with_ctx(
                "vm.builtin.cuda_graph.get_cached_alloc",
                [allocation, relax.prim_value(0)],
                ty_args=[relax.AnyType()],
            )
        )
    return builder.finalize()
