"""Kernels of OpenCL through clang."""

from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.verification.opencl_check import compile_kernels, kernels
from tasks.node import Source
from tasks.verification import find

GOOD = "__kernel void good(__global float* x) { x[get_global_id(0)] = exp(x[0]); }\n"


@pytest.fixture
def headers() -> Path:
    found = find("opencl")
    if not isinstance(found, Source):
        pytest.skip(found.what)
    return found.root


def test_kernels_are_split_where_the_runtime_splits_them() -> None:
    source = f"// Function: good\n{GOOD}// Function: other\nint f();\n"
    assert kernels(source) == {"good": f"\n{GOOD}", "other": "\nint f();\n"}
    assert kernels("nothing") == {}


def test_kernels_compile(headers: Path, tmp_path: Path) -> None:
    half = "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n"
    halves = f"{half}__kernel void halves(__global half4* x) {{ x[0] = fma(x[0], x[1], x[2]); }}"
    compile_kernels({"good": GOOD, "halves": halves}, headers, tmp_path)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("__kernel void bad(__global float* x) { x[0] = y; }", "undeclared identifier 'y'"),
        ("__kernel void bad(float* x) {}", "must reside in '__global'"),
        ("__kernel void bad(__global float* x) { atomic_frobnicate(x); }", "atomic_frobnicate"),
    ],
)
def test_a_broken_kernel_is_rejected(
    headers: Path, tmp_path: Path, program: str, told: str
) -> None:
    with pytest.raises(OlmoError, match=r"^zig clang failed: bad\.cl:1:.*error:") as error:
        compile_kernels({"good": GOOD, "bad": program}, headers, tmp_path)
    assert told in str(error.value)
