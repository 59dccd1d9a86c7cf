"""The passes between a scheduled module and code: memory plan, calls into the VM.

Everything here may depend on the whole target. What the passes add to the module (bounds, the
metadata function, memory figures) comes from the library's metadata alone.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-untyped-decorators

import json
from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax, tirx

from olmo.compilation.code_generation import mark_internal
from olmo.compilation.cuda_graph import with_recordings

Metadata = Mapping[str, Any]


def run(
    module: tvm.IRModule,
    metadata: Metadata,
    target: tvm.target.Target,
    *,
    cuda_graph: bool = False,
) -> tvm.IRModule:
    """Return `module` ready for code generation, with `_metadata()` and its `memory_usage`.

    With `cuda_graph`, steps of decoding are recorded as CUDA graphs.
    """
    passes = relax.transform
    module = _with_bounds(module, metadata)
    module = _with_embedding_buffer(module, metadata)
    for step in (
        tirx.transform.BindTarget(target),
        passes.RewriteDataflowReshape(),
        passes.ToNonDataflow(),
        passes.RemovePurityChecking(),
        passes.CallTIRRewrite(),
        passes.StaticPlanBlockMemory(),
    ):
        module = step(module)
    module = _with_metadata(module, metadata)
    if cuda_graph:
        module = with_recordings(module)
    for step in (
        passes.LowerAllocTensor(),
        passes.KillAfterLastUse(),
        passes.LowerRuntimeBuiltin(),
        passes.ComputePrimValue(),
        passes.VMShapeLower(),
        _order_shape_functions,
        mark_internal,
        passes.AttachGlobalSymbol(),
    ):
        module = step(module)
    return module


def _with_bounds(module: tvm.IRModule, metadata: Metadata) -> tvm.IRModule:
    """Tell the memory planner how large the symbolic dimensions of each function can become."""
    batch = metadata["max_batch_size"]
    bounds = {
        "seq_len": metadata["prefill_chunk_size"],
        "batch_size": batch,
        "num_samples": batch,
        "num_positions": 6 * batch,  # sampled tokens with five likeliest ones each
    }
    for name, function in module.functions_items():
        if isinstance(function, relax.Function):
            module[name] = function.with_attr("tir_var_upper_bound", bounds)
    return module


def _with_embedding_buffer(module: tvm.IRModule, metadata: Metadata) -> tvm.IRModule:
    """Add `alloc_embedding_tensor() -> [prefill chunk, hidden]` in the model dtype."""
    (table,) = (f for v, f in module.functions_items() if v.name_hint == "embed")
    result = table.ret_ty
    shape = (metadata["prefill_chunk_size"], result.shape.values[1])
    builder = relax.BlockBuilder(module)
    with builder.function("alloc_embedding_tensor", []):
        out = builder.emit(
            relax.op.builtin.alloc_tensor(
                relax.ShapeExpr(shape), str(result.dtype), runtime_device_index=0
            )
        )
        builder.emit_func_output(out)
    return builder.finalize()


def _with_metadata(module: tvm.IRModule, metadata: Metadata) -> tvm.IRModule:
    """Add `_metadata()`, a function that returns the metadata with `memory_usage` as JSON."""
    content = {**metadata, "memory_usage": _memory_usage(module)}
    text = json.dumps(content, separators=(",", ":"))
    builder = relax.BlockBuilder(module)
    with builder.function("_metadata", []):
        builder.emit_func_output(tvm.ir.StringImm(text))
    return builder.finalize()


def _memory_usage(module: tvm.IRModule) -> dict[str, int]:
    """Return the bytes of planned storage and of other fixed-size tensors, by function."""
    usage = {}
    for name, function in module.functions_items():
        if isinstance(function, relax.Function):
            sizes: list[int] = []
            relax.analysis.post_order_visit(
                function, lambda node, sizes=sizes: sizes.append(_allocated(node))
            )
            usage[str(name.name_hint)] = sum(sizes)
    return dict(sorted(usage.items()))


def _allocated(node: Any) -> int:
    if not isinstance(node, tvm.ir.Call) or not isinstance(node.op, tvm.ir.Op):
        return 0
    if node.op.name == "relax.memory.alloc_storage":
        return _product(node.args[0].values, 1)
    if node.op.name == "relax.builtin.alloc_tensor":
        bits = tvm.runtime.DataType(str(node.args[1].value)).bits
        return _product(node.args[0].values, -(-bits // 8))
    return 0


def _product(extents: Any, size: int) -> int:
    """Return the bytes of a fixed shape, 0 for one whose size is known only when it runs."""
    for extent in extents:
        if not isinstance(extent, tirx.IntImm):
            return 0
        size *= int(extent)
    return size


@tvm.transform.module_pass(opt_level=0, name="OrderShapeFunctions")
def _order_shape_functions(
    module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tvm.IRModule:
    """Sort the stores of each shape function by slot.

    VMShapeLower emits them in the order of a hash of pointers, which differs from run to run.
    """
    for name, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and name.name_hint.startswith("shape_func"):
            body = function.body
            if isinstance(body, tirx.SeqStmt):
                stores = sorted(body.seq, key=lambda store: int(store.indices[0]))
                module.update_func(name, function.with_body(tirx.SeqStmt(stores)))
    return module
