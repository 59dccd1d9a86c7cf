"""What lowering may know of a target: its kind, and the launch limits of kinds that have some.

`adreno` is OpenCL on the GPUs of that name, whose kernels of attention are others.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Mapping
from typing import Any

import tvm

LOWERING_TARGETS: Mapping[str, Mapping[str, Any]] = {
    "llvm": {"kind": "llvm"},
    "cuda": {"kind": "cuda", "arch": "sm_80", "max_shared_memory_per_block": 49152},
    "metal": {
        "kind": "metal",
        "max_threads_per_block": 256,
        "max_shared_memory_per_block": 32768,
        "thread_warp_size": 1,
    },
    "opencl": {"kind": "opencl"},
    "adreno": {"kind": "opencl", "device": "adreno", "max_threads_per_block": 512},
    "webgpu": {"kind": "webgpu"},
}


def is_gpu(target: tvm.target.Target) -> bool:
    """Whether functions of this target are kernels that a host launches."""
    return bool(target.kind.name != "llvm")
