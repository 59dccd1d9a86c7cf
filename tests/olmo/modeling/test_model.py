import numpy as np
import pytest
import tvm
from tvm.relax.frontend import nn

from olmo.configuration.config import ACTIVATIONS
from olmo.modeling import model
from olmo.modeling.model import OLMo
from olmo.quantization import Quantization
from olmo.quantizations import QUANTIZATIONS
from olmo.verification import reference
from olmo.weights import parameters
from tests.olmo.sample_checkpoints import config

SUPPORTED = [q for q in QUANTIZATIONS.values() if q.supported]


@pytest.mark.parametrize("quantization", SUPPORTED, ids=lambda q: q.name)
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_weight_table(quantization: Quantization, tied: bool) -> None:
    awq = {"hidden_size": 256, "intermediate_size": 384}  # whole groups
    shapes = awq if quantization.kind == "awq" else {"intermediate_size": 52}
    chosen = config(tie_word_embeddings=tied, **shapes)
    found = [
        (name, tuple(parameter.shape), str(parameter.dtype))
        for name, parameter in OLMo(chosen, quantization).named_parameters()
    ]
    assert found == [(p.name, p.shape, p.dtype) for p in parameters(chosen, quantization)]


def test_every_activation_of_the_config_is_there() -> None:
    assert set(model.ACTIVATIONS) == set(ACTIVATIONS)


def run(function: object, *arrays: np.ndarray) -> np.ndarray:
    """Run a function of the model's building blocks on arrays."""

    class Wrapped(nn.Module):
        def forward(self, *tensors: nn.Tensor) -> nn.Tensor:
            return function(*tensors)

    dtypes = {"float16": "float16", "float32": "float32"}
    names = [f"x{i}" for i in range(len(arrays))]
    specs = [nn.spec.Tensor(list(a.shape), dtypes[str(a.dtype)]) for a in arrays]
    method = nn.spec.MethodSpec(Wrapped().forward, names, specs, "none", "none")
    module, _, _ = Wrapped().export_tvm(
        spec=nn.spec.ModuleSpec(Wrapped(), ["run"], [method]), allow_extern=True
    )
    target = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu"})
    with target:
        vm = tvm.relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
    return vm["run"](*map(tvm.runtime.tensor, arrays)).numpy()


X = np.random.default_rng(0).normal(0.5, 3, (3, 40)).astype(np.float32)


def test_layer_norm() -> None:
    expected = reference.layer_norm(X.astype(np.float64))
    assert np.abs(run(model.layer_norm, X) - expected).max() < 1e-6
    assert np.abs(run(model.layer_norm, X.astype(np.float16)) - expected).max() < 4e-3
    # far from zero, where E[x^2] - E[x]^2 would have lost every digit
    assert np.abs(run(model.layer_norm, X + np.float32(1000)) - expected).max() < 1e-3


def test_clip() -> None:
    assert np.array_equal(run(lambda x: model.clip(x, 1.5), X), np.clip(X, -1.5, 1.5))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gated_activation(name: str) -> None:
    act = reference._ACTIVATIONS[name]
    gate, up = np.split(X.astype(np.float64), 2, axis=1)
    found = run(lambda x: model.gated_activation(x, name), X)
    assert np.abs(found - act(gate) * up).max() < 1e-5
