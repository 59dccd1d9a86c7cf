"""PrimFuncs of equal expressions are made once, and only of equal ones."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import tvm
from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from olmo.modeling.tensor_expression import made_once, tensor_expression

Factor = Callable[[Tensor], Tensor]


def times(factor: float, made: list[float]) -> Factor:
    """Return a layer that multiplies, and notes whenever its expression is evaluated."""

    def layer(x: Tensor) -> Tensor:
        note = made.append

        def scaled(a: te.Tensor) -> te.Tensor:
            note(factor)
            return te.compute(a.shape, lambda i, j: a[i, j] * tvm.tirx.const(factor, a.dtype))

        return tensor_expression(scaled, "scaled", [x])

    return layer


class Layers(nn.Module):
    """Layers one after the other, in two functions of different shapes."""

    def __init__(self, layers: list[Factor]) -> None:
        self.layers = layers

    def wide(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    narrow = wide

    def halves(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


def module(factors: list[float], made: list[float], *, once: bool) -> tvm.IRModule:
    note = [times(factor, made) for factor in factors]
    spec = {
        "wide": {"x": nn.spec.Tensor(["n", 8], "float32")},
        "narrow": {"x": nn.spec.Tensor(["n", 4], "float32")},
        "halves": {"x": nn.spec.Tensor([2, 4], "float16")},
    }
    with made_once() if once else nullcontext():
        built, _ = Layers(note).export_tvm(spec=spec)
    return built


@pytest.mark.parametrize("factors", [[2.0, 2.0, 2.0], [2.0, 3.0, 2.0]])
def test_the_module_is_the_same(factors: list[float]) -> None:
    made_each, made = list[float](), list[float]()
    every = module(factors, made_each, once=False)
    reused = module(factors, made, once=True)
    tvm.ir.assert_structural_equal(reused, every)
    assert len(made_each) == 7
    assert sorted(made) == sorted([*set(factors), *set(factors), factors[0]])


def test_nothing_is_kept_for_the_next_module() -> None:
    made = list[float]()
    module([2.0], made, once=True)
    module([2.0], made, once=True)
    assert len(made) == 6


def test_what_cannot_be_compared_is_made_each_time() -> None:
    made = list[int]()

    def layer(x: Tensor) -> Tensor:
        unhashable = {"by": 2.0}

        def scaled(a: te.Tensor) -> te.Tensor:
            made.append(1)
            return te.compute(a.shape, lambda i, j: a[i, j] * unhashable["by"])

        return tensor_expression(scaled, "scaled", [x])

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer(layer(x))

    with made_once():
        built, _ = Twice().export_tvm(spec={"forward": {"x": nn.spec.Tensor([2, 4], "float32")}})
    assert len(made) == 2
    assert (
        len([name for name, f in built.functions_items() if isinstance(f, tvm.tirx.PrimFunc)]) == 1
    )
