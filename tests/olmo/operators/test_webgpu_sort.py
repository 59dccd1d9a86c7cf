import re

import pytest
import tvm

from olmo.operators.gpu_sampling import sample
from olmo.operators.webgpu_sort import argsort

WEBGPU = tvm.target.Target(
    {"kind": "webgpu", "host": {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm"}}
)


def source(function: tvm.tirx.PrimFunc) -> str:
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    return str(tvm.compile(module, WEBGPU).mod.imports[0].inspect_source())


@pytest.mark.parametrize("vocab", [300, 50304, 100352])
def test_kernels_keep_the_limits_of_webgpu(vocab: int) -> None:
    """256 threads and 16 KiB of memory in a workgroup, and eight buffers."""
    for function in (argsort(vocab), sample(vocab, truncated=True)):
        text = source(function)
        for kernel in text.split("@compute")[1:]:
            assert kernel.startswith(" @workgroup_size(256, 1, 1)")
        shared = re.findall(r"var<workgroup> \w+ : array<[fi]32, (\d+)>", text)
        assert 4 * sum(map(int, shared)) <= 2 * 16384  # of two kernels
        buffers = re.findall(r"@binding\((\d+)\)", text)
        assert max(map(int, buffers)) < 8
