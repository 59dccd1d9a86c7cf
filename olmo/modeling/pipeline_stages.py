"""Pipeline stages: each group of devices runs its layers and hands the states to the next group.

The model marks where a stage ends (`boundary`); `split_stages` cuts the functions there. A function
that was cut becomes one function for each stage and, under its own name, one that calls the stage of
the device's group. The names of the mark and of what the runtime has to provide are MLC's
(`compiler_pass/pipeline_parallel_rewrite.py`), `runtime.disco.*` TVM's.

A device holds the parameters of its stage alone, so that functions take any tuple for parameters and
fetch from it what they use. Arguments that the first device gives to all others, it gives at the
beginning of every stage.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.nn import Tensor

BOUNDARY = "mlc.pipeline_parallel_stage_boundary"
DISPATCH = "mlc.multi_gpu.DispatchFunctionByGroup"
BROADCAST = "runtime.disco.broadcast_from_worker0"
SEND = "runtime.disco.send_to_next_group"
RECEIVE = "runtime.disco.recv_from_prev_group"

FETCH = "vm.builtin.tuple_getitem"

PARAMETERS = "packed_params"  # the name that exported functions give their last parameter


@dataclass(frozen=True)
class _Stage:
    """The bindings of a stage; `received` and `sent` are None at the first and the last one.

    `shared` are the arguments that the first device gives to all others.
    """

    received: relax.Var | None
    bindings: Sequence[relax.VarBinding]
    sent: relax.Var | None
    shared: Sequence[relax.Var]


def boundary(x: Tensor) -> Tensor:
    """Mark the end of a stage, which `x` leaves."""
    call = relax.call_pure_packed(BOUNDARY, x._expr, ty_args=x._expr.ty)  # noqa: SLF001 - the frontend has no public accessor
    return Tensor(_expr=relax.BlockBuilder.current().emit(call))


def split_stages(module: tvm.IRModule) -> tvm.IRModule:
    """Cut the functions of an exported module at their boundaries."""
    builder = relax.BlockBuilder(module)
    for name, function in module.functions_items():
        if not isinstance(function, relax.Function):
            continue
        loose = _with_any_parameters(function)
        stages = _stages(loose)
        if len(stages) > 1:
            made = [_stage_function(loose, stage) for stage in stages]
            calls = []
            for number, (part, arguments) in enumerate(made):
                own = f"{name.name_hint}_stage{number}"
                public = part.with_attr("global_symbol", own)
                calls.append((builder.add_func(public, own), arguments))
            loose = _dispatch(loose, calls)
        builder.update_func(name, relax.utils.copy_with_new_vars(loose))
    return builder.finalize()


def _with_any_parameters(function: relax.Function) -> relax.Function:
    """Return the function with parameters of any type, each fetched where it was taken."""
    if not function.params or function.params[-1].name != PARAMETERS:
        return function
    (block,) = function.body.blocks
    given, held = function.params[-1], relax.Var(PARAMETERS, relax.AnyType())

    def fetched(binding: relax.VarBinding) -> relax.VarBinding:
        value = binding.value
        if not isinstance(value, relax.TupleGetItem) or not value.tuple_value.same_as(given):
            return binding
        index = relax.prim_value(value.index)
        call = relax.call_pure_packed(FETCH, held, index, ty_args=binding.var.ty)
        return relax.VarBinding(binding.var, call)

    blocks = [relax.DataflowBlock([fetched(binding) for binding in block.bindings])]
    body = relax.SeqExpr(blocks, function.body.body)
    parameters = [*function.params[:-1], held]
    return relax.Function(parameters, body, function.ret_ty, attrs=function.attrs)


def _stages(function: relax.Function) -> list[_Stage]:
    """Return the stages of a function; what fetches parameters and arguments is in each of them."""
    (block,) = function.body.blocks
    shared = [binding.value.args[0] for binding in block.bindings if _is_broadcast(binding)]
    common: list[relax.VarBinding] = []
    found: list[_Stage] = []
    received: relax.Var | None = None
    bindings: list[relax.VarBinding] = []
    for binding in block.bindings:
        if _is_call(binding, FETCH):
            common.append(binding)
        elif _is_broadcast(binding):
            common.append(relax.VarBinding(binding.var, binding.value.args[0]))
        elif _is_call(binding, BOUNDARY):
            found.append(_Stage(received, bindings, binding.value.args[1], shared))
            received, bindings = binding.var, []
        else:
            bindings.append(binding)
    found.append(_Stage(received, bindings, None, shared))
    return [replace(stage, bindings=[*common, *stage.bindings]) for stage in found]


def _is_broadcast(binding: relax.VarBinding) -> bool:
    value = binding.value
    operator = tvm.ir.Op.get("relax.ccl.broadcast_from_worker0")
    return isinstance(value, tvm.ir.Call) and value.op == operator


def _is_call(binding: relax.VarBinding, name: str) -> bool:
    value = binding.value
    return (
        isinstance(value, tvm.ir.Call)
        and value.op == tvm.ir.Op.get("relax.call_pure_packed")
        and str(value.args[0].global_symbol) == name
    )


def _stage_function(
    function: relax.Function, stage: _Stage
) -> tuple[relax.Function, list[relax.Expr]]:
    """Return the function of one stage and the arguments that the whole function calls it with.

    It takes those arguments of the whole function that it uses, the symbolic dimensions of all of
    them as a shape, and the parameters. It returns what the whole function does, or in a tuple what
    it has sent.
    """
    bindings = list(stage.bindings)
    if stage.received is not None:
        receive = relax.call_dps_packed(RECEIVE, [], out_ty=stage.received.ty)
        bindings.insert(0, relax.VarBinding(stage.received, receive))
    before = [_effect(BROADCAST, given, relax.prim_value(0), given) for given in stage.shared]
    after = []
    result, result_type = function.body.body, function.ret_ty
    if stage.sent is not None:
        sent = relax.Var("sent", stage.sent.ty)
        bindings.append(relax.VarBinding(sent, stage.sent))
        after = [_effect(SEND, sent)]
        result, result_type = relax.Tuple([sent]), relax.TupleType([sent.ty])
    blocks = [
        *([relax.BindingBlock(before)] if before else []),
        relax.DataflowBlock(bindings),
        *([relax.BindingBlock(after)] if after else []),
    ]
    body = relax.SeqExpr(blocks, result)
    free = relax.analysis.free_vars(body)
    *own, held = function.params
    used = [parameter for parameter in own if parameter in free]
    dimensions = sorted(relax.analysis.defined_symbolic_vars(function), key=lambda v: str(v.name))
    shape = relax.Var("dimensions", relax.ShapeType(dimensions))
    made = relax.Function([*used, shape, held], body, result_type, is_pure=False)
    return relax.utils.copy_with_new_vars(made), [*used, relax.ShapeExpr(dimensions), held]


def _effect(name: str, *arguments: relax.Expr) -> relax.VarBinding:
    """Return a call for what it does."""
    call = relax.Call(relax.ExternFunc(name), list(arguments), ty_args=[relax.AnyType()])
    return relax.VarBinding(relax.Var("_", relax.AnyType()), call)


def _dispatch(
    function: relax.Function, calls: Sequence[tuple[tvm.ir.GlobalVar, list[relax.Expr]]]
) -> relax.Function:
    """Return the function that calls the stage of the group that the device belongs to."""
    choices = relax.Tuple([relax.Tuple([name, *arguments]) for name, arguments in calls])
    out = relax.Var("out", relax.AnyType())
    call: Any = relax.op.call_builtin_with_ctx(
        DISPATCH, relax.Tuple([choices]), ty_args=relax.AnyType()
    )
    body = relax.SeqExpr([relax.BindingBlock([relax.VarBinding(out, call)])], out)
    return relax.Function(
        list(function.params), body, relax.AnyType(), is_pure=False, attrs=function.attrs
    )
