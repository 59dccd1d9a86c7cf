"""Kernels for CPUs, built one by one and called with numpy's arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import tirx

TARGET = {"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu", "mcpu": "x86-64-v3"}
HEADS, KV_HEADS, D = 4, 2, 24  # a head that is no multiple of 16
RNG = np.random.default_rng(0)
Arrays = np.ndarray


def build(function: tirx.PrimFunc) -> Callable[..., None]:
    module = tvm.IRModule({"f": function.with_attr("global_symbol", "f")})
    return tvm.tirx.build(module, target=tvm.target.Target(TARGET))["f"]


def tensor(array: Arrays) -> Any:
    return tvm.runtime.tensor(np.ascontiguousarray(array))


def ints(values: Sequence[int]) -> Any:
    return tensor(np.array(values, np.int32))


def rows_of(n: int, heads: int, dtype: str) -> Arrays:
    return RNG.normal(0, 2, (n, heads, D)).astype(dtype)
