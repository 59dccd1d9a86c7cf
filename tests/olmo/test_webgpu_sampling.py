import re

import pytest
import tvm
from tvm import relax

from olmo.webgpu_sampling import argsort, sample, with_sampling

WEBGPU = tvm.target.Target(
    {"kind": "webgpu", "host": {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm"}}
)


def source(function: tvm.tirx.PrimFunc) -> str:
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    return str(tvm.compile(module, WEBGPU).mod.imports[0].inspect_source())


@pytest.mark.parametrize("vocab", [300, 50304, 100352])
def test_kernels_keep_the_limits_of_webgpu(vocab: int) -> None:
    """256 threads and 16 KiB of memory in a workgroup, 65535 workgroups, ten buffers."""
    for function in (argsort(vocab), sample(vocab)):
        for kernel in source(function).split("@compute")[1:]:
            assert kernel.startswith(" @workgroup_size(256, 1, 1)")
        shared = re.findall(r"var<workgroup> \w+ : array<[fi]32, (\d+)>", source(function))
        assert 4 * sum(map(int, shared)) <= 2 * 16384  # of two kernels
        buffers = re.findall(r"@binding\((\d+)\)", source(function))
        assert max(map(int, buffers)) < 8


def test_functions_are_those_of_mlc() -> None:
    module = with_sampling(tvm.IRModule(), 1000)
    functions = {v.name_hint: f for v, f in module.functions_items()}
    sort, draw = functions["argsort_probs"], functions["sample_with_top_p"]
    assert isinstance(sort, relax.Function)
    assert isinstance(draw, relax.Function)
    assert [str(field.dtype) for field in sort.ret_ty.fields] == ["float32", "int32"]
    assert [p.name for p in draw.params] == [
        *("sorted_probs", "sorted_indices", "uniform_samples", "sample_indices", "top_p")
    ]
    assert str(draw.ret_ty.dtype) == "int32"
