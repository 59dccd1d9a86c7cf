"""Schedules for GPUs: TVM's own rules (dlight), for every PrimFunc that its author has not scheduled."""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-untyped-decorators
# mypy: allow-subclassing-any

import inspect
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import dlight


class _Matmul(dlight.gpu.Matmul):
    """dlight's rule for products, but for Metal's simdgroup matrices: their sums are float16."""

    def apply(self, function: tirx.PrimFunc, target: tvm.target.Target, tunable: bool) -> Any:
        if target.kind.name == "metal":
            target = tvm.target.Target(
                {"kind": "opencl"}
            )  # another GPU that the rule has no case for
        return super().apply(function, target, tunable)


@tvm.transform.module_pass(opt_level=0, name="ScheduleForGpu")
def schedule_for_gpu(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Schedule the module for the target in scope."""
    _quicken_parsing()
    return dlight.ApplyDefaultSchedule(
        _Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )(module)


def _quicken_parsing() -> None:
    """Let tvm.s_tir.tensor_intrin, which the rules import, load in 4 seconds instead of 20.

    For each function that TVMScript parses, `inspect.stack` looks for the modules of the frames
    below it. Those of the import system have no file, so it searches all modules for each of them,
    unless its table says which they are.
    """
    for name in ("importlib._bootstrap", "importlib._bootstrap_external"):
        inspect.modulesbyfile[f"<frozen {name}>"] = name
