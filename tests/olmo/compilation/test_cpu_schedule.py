"""Scheduled functions against numpy, over shapes that divide and shapes that do not."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from olmo.codecs.group_quantization import dequantize, quantize
from olmo.compilation.cpu_schedule import schedule
from olmo.modeling.model import layer_norm
from olmo.modeling.quantized_layers import embedding, linear
from olmo.quantizations import quantization
from olmo.verification.reference import layer_norm as reference_layer_norm

TARGET = {"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu", "mcpu": "x86-64-v3"}
Arrays = Mapping[str, np.ndarray]


def functions(
    module: nn.Module, body: Callable[..., nn.Tensor], specs: Mapping[str, nn.spec.Tensor]
) -> dict[str, tirx.PrimFunc]:
    """Return the PrimFuncs that a layer becomes after fusion, by name."""
    method = nn.spec.MethodSpec(body, list(specs), list(specs.values()), "plain", "none")
    with tvm.target.Target({"kind": "llvm"}):
        exported, _, _ = module.export_tvm(
            spec=nn.spec.ModuleSpec(module, ["run"], [method]), allow_extern=True
        )
    passes = tvm.relax.transform
    for step in (
        passes.LegalizeOps(),
        passes.AnnotateTIROpPattern(),
        passes.FuseOps(),
        passes.FuseTIR(),
        passes.DeadCodeElimination(),
    ):
        exported = step(exported)
    return {
        name.name_hint: function
        for name, function in exported.functions_items()
        if isinstance(function, tirx.PrimFunc)
    }


def build(function: tirx.PrimFunc, mcpu: str = "x86-64-v3") -> Callable[..., None]:
    """Schedule and build a function; calling it changes the last of its arrays."""
    target = tvm.target.Target({**TARGET, "mcpu": mcpu})
    scheduled = schedule(function, target)
    assert scheduled is not None
    module = tvm.IRModule({"f": scheduled.with_attr("global_symbol", "f")})
    built = tvm.tirx.build(module, target=target)["f"]

    def call(*arrays: np.ndarray) -> None:
        tensors = [tvm.runtime.tensor(array) for array in arrays]
        built(*tensors)
        arrays[-1][...] = tensors[-1].numpy()

    return call


# depth: whole groups, a part of a group, no multiple of the lanes, more groups than are read at
# once; columns: a prime, several tiles
SHAPES = [(96, 64), (176, 48), (36, 13), (2080, 40), (340, 96)]
TOLERANCES = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


@pytest.mark.parametrize("name", ["q0f32", "q0f16"])
@pytest.mark.parametrize(("depth", "columns"), SHAPES)
@pytest.mark.parametrize("symbolic", [False, True], ids=["one row", "rows"])
def test_products_of_plain_weights(name: str, depth: int, columns: int, *, symbolic: bool) -> None:
    check_product(name, depth, columns, symbolic=symbolic)


@pytest.mark.parametrize("name", ["q4f32_1", "q4f16_1", "q4bf16_0", "q3f16_0", "q3f16_1"])
@pytest.mark.parametrize(("depth", "columns"), [(96, 64), (36, 13), (1056, 40), (340, 96)])
@pytest.mark.parametrize("symbolic", [False, True], ids=["one row", "rows"])
def test_products_of_groups(name: str, depth: int, columns: int, *, symbolic: bool) -> None:
    check_product(name, depth, columns, symbolic=symbolic)


@pytest.mark.parametrize("name", ["q4f16_1", "q4bf16_0"])
@pytest.mark.parametrize("symbolic", [False, True], ids=["one row", "rows"])
def test_products_with_four_lanes(name: str, *, symbolic: bool) -> None:
    """What processors without AVX, and those of other makes, have."""
    check_product(name, 340, 96, symbolic=symbolic, mcpu="x86-64")


def check_product(
    name: str, depth: int, columns: int, *, symbolic: bool, mcpu: str = "x86-64-v3"
) -> None:
    """Hold a layer that adds to its product against numpy, for some numbers of rows."""
    q = quantization(name)
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.1, (columns, depth)).astype(np.float32)
    if q.kind == "group":
        stored = quantize(weight, q)
        weight = dequantize(*stored, q, depth)
        if q.layout == "KN":
            stored = tuple(np.ascontiguousarray(array.T) for array in stored)
    else:
        stored = (weight.astype(q.model_dtype),)
        weight = stored[0].astype(np.float32)
    layer = linear(q, "linear", depth, columns)

    def body(x: nn.Tensor, y: nn.Tensor) -> nn.Tensor:
        return layer.forward(x) + y

    specs = {
        "x": nn.spec.Tensor(["rows" if symbolic else 1, depth], q.model_dtype),
        "y": nn.spec.Tensor(["rows" if symbolic else 1, columns], q.model_dtype),
    }
    (function,) = functions(layer, body, specs).values()
    run = build(function, mcpu)
    for rows in (1, 3, 4, 13) if symbolic else (1,):
        x = rng.normal(size=(rows, depth)).astype(q.model_dtype)
        y = rng.normal(size=(rows, columns)).astype(q.model_dtype)
        out = np.full((rows, columns), np.nan, q.model_dtype)
        run(x, *stored, y, out)
        expected = x.astype(np.float64) @ weight.T.astype(np.float64) + y
        assert np.abs(out - expected).max() < TOLERANCES[q.model_dtype] * np.abs(expected).max()


def test_float16_products_accumulate_in_float32() -> None:
    """4096 times 1 + 1/1024 by 1/4: float16 sums would stop growing at 2048 * ulp."""
    q, depth = quantization("q0f16"), 4096
    layer = linear(q, "linear", depth, 8)
    specs = {"x": nn.spec.Tensor(["rows", depth], "float16")}
    (function,) = functions(layer, layer.forward, specs).values()
    x = np.full((3, depth), 1 + 1 / 1024, np.float16)
    out = np.zeros((3, 8), np.float16)
    build(function)(x, np.full((8, depth), 0.25, np.float16), out)
    assert out.tolist() == np.full((3, 8), np.float16(1025.0)).tolist()


def test_logits_are_float32() -> None:
    """More exact than float16 weights or activations would be."""
    q = quantization("q4f16_1")
    layer = linear(q, "final_fc", 64, 48)
    specs = {"x": nn.spec.Tensor([1, 64], "float16")}
    (function,) = functions(layer, lambda x: layer.forward(x, "float32"), specs).values()
    words, scales = quantize(np.random.default_rng(0).normal(size=(48, 64)).astype(np.float32), q)
    x = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float16)
    out = np.zeros((1, 48), np.float32)
    build(function)(x, words, scales, out)
    weight = dequantize(words, scales.astype(np.float32), quantization("q4f32_1"), 64)
    expected = x.astype(np.float64) @ weight.astype(np.float64).T
    assert np.abs(out - expected).max() < 3e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["q0f16", "q4f32_1", "q4f16_1"])
@pytest.mark.parametrize("width", [64, 36])
def test_embeddings(name: str, width: int) -> None:
    q = quantization(name)
    table = np.random.default_rng(0).normal(size=(20, width)).astype(np.float32)
    stored = quantize(table, q) if q.kind == "group" else (table.astype(q.model_dtype),)
    expected = dequantize(*stored, q, width) if q.kind == "group" else stored[0]
    layer = embedding(q, 20, width)
    specs = {"ids": nn.spec.Tensor(["n"], "int32")}
    (function,) = functions(layer, layer.lookup, specs).values()
    ids = np.array([19, 0, 7, 7], np.int32)
    out = np.zeros((4, width), q.model_dtype)
    build(function)(ids, *stored, out)
    assert np.array_equal(out, expected[ids].astype(q.model_dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("rows", "width"), [("n", 64), (1, 36), ("n", 7)])
def test_layer_norm(rows: int | str, width: int, dtype: str) -> None:
    class Norm(nn.Module):
        def forward(self, x: nn.Tensor) -> nn.Tensor:
            return layer_norm(x)

    norm = Norm()
    (function,) = functions(
        norm, norm.forward, {"x": nn.spec.Tensor([rows, width], dtype)}
    ).values()
    x = np.random.default_rng(0).normal(2, 5, (1 if rows == 1 else 3, width)).astype(dtype)
    out = np.zeros_like(x)
    build(function)(x, out)
    expected = reference_layer_norm(x.astype(np.float64))
    assert np.abs(out - expected).max() < (1e-5 if dtype == "float32" else 2e-3)


@pytest.mark.parametrize("shape", [("n", 40), (1, 33), ("n",)])
def test_elementwise(shape: tuple[int | str, ...]) -> None:
    class Double(nn.Module):
        def forward(self, x: nn.Tensor) -> nn.Tensor:
            def double(a: te.Tensor) -> te.Tensor:
                half = te.compute(a.shape, lambda *i: a(*i) + 1, name="half")
                return te.compute(a.shape, lambda *i: half(*i) * 2, name="double")

            return op.tensor_expr_op(double, "double", [x])

    double = Double()
    specs = {"x": nn.spec.Tensor(list(shape), "float32")}
    (function,) = functions(double, double.forward, specs).values()
    sizes = [3 if extent == "n" else extent for extent in shape]
    x = np.random.default_rng(0).normal(size=sizes).astype(np.float32)
    out = np.zeros_like(x)
    build(function)(x, out)
    assert np.array_equal(out, (x + 1) * 2)
