"""Schedules: how the loops of each PrimFunc run on a device.

They depend on the lowered module and the device alone. Windows of one model lower to the same
module, and some targets differ in their hosts only: what is scheduled once in a process is kept.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import tvm

from olmo.compilation.cpu_schedule import schedule_for_cpu
from olmo.compilation.gpu_schedule import schedule_for_gpu
from olmo.modeling import canonical_ir
from olmo.modeling.lowering_target import is_gpu

_KEPT = 16  # modules: the targets of a release come in turn for each of its windows
_OF_HOST = ("libs",)  # options that say where kernels run, and nothing of how


def scheduled(module: bytes, target: Mapping[str, Any], level: int) -> tvm.IRModule:
    """Return the lowered `module` with every PrimFunc scheduled for a device.

    `target` is a dictionary for `tvm.target.Target`, without host; `level` that of TVM's passes.
    """
    device = {name: value for name, value in target.items() if name not in _OF_HOST}
    return _scheduled(module, json.dumps(device, sort_keys=True), level).clone()


@lru_cache(maxsize=_KEPT)
def _scheduled(module: bytes, device: str, level: int) -> tvm.IRModule:
    target = tvm.target.Target(json.loads(device))
    schedule = schedule_for_gpu if is_gpu(target) else schedule_for_cpu
    with target, tvm.transform.PassContext(opt_level=level):
        return schedule(canonical_ir.load(module))
