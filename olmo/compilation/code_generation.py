"""Code generation: TVM's own lowering of TIR, without argument checks where none can fail.

The functions that a user calls check their arguments: those of the virtual machine by their types,
PrimFuncs that are called directly by code in front of their body. All other PrimFuncs are called
by these with tensors they have made or checked; their checks would be most of the library's code.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-untyped-decorators

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.s_tir import pipeline as s_tir_pipeline

PIPELINE = "olmill"
INTERNAL = "olmill.internal"  # attribute of a PrimFunc that only the library itself calls


def generate(module: tvm.IRModule, target: tvm.target.Target, *, system_lib: bool = False) -> Any:
    """Return the executable of a module that `olmo.compilation.pipeline` has made ready.

    With `system_lib`, functions register themselves when a program starts that is linked with them.
    """
    tirx.register_tir_pipeline(PIPELINE, _pipeline)
    return relax.build(
        module, target, relax_pipeline=None, tir_pipeline=PIPELINE, system_lib=system_lib
    )


@tvm.transform.module_pass(opt_level=0, name="MarkInternal")
def mark_internal(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Mark the PrimFuncs that have no public name."""
    for name, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and "global_symbol" not in function.attrs:
            module.update_func(name, function.with_attr(INTERNAL, True))
    return module


def _pipeline() -> tuple[tvm.transform.Pass, Callable[[], Any], Callable[[], Any]]:
    lower, host, device = s_tir_pipeline.default_s_tir_pipeline()
    return tvm.transform.Sequential([lower, _skip_internal_checks]), host, device


@tvm.transform.module_pass(opt_level=0, name="SkipInternalChecks")
def _skip_internal_checks(
    module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tvm.IRModule:
    internal = {
        name: function
        for name, function in module.functions_items()
        if isinstance(function, tirx.PrimFunc) and INTERNAL in function.attrs
    }
    unchecked = tirx.transform.SkipAssert()(tvm.IRModule(internal))
    for name, function in unchecked.functions_items():
        module.update_func(module.get_global_var(name.name_hint), function)
    return module
