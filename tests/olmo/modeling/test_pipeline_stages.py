"""Functions that are cut into stages, on four devices: two shards in each of two stages."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from olmo.generation.runtime import Engine
from olmo.modeling import canonical_ir
from tests.olmo.libraries import Built, golden_tokens

TOKENS = golden_tokens("pub-b")[:21]


@pytest.fixture
def engine(divided: Built) -> Engine:
    return divided.engine(max_sequences=2)


def run(engine: Engine, function: str, tokens: Sequence[int], batch: int = 1) -> Any:
    """Run a function on new tokens of one sequence; return the states or logits it gives, as rows."""
    engine._check(0, list(tokens))
    found = engine._forward(function, {0: len(tokens)}, list(tokens), batch=batch)
    return found.reshape(-1, found.shape[-1])


def test_every_function_gives_logits(engine: Engine, divided: Built) -> None:
    (expected,) = divided.reference(TOKENS)
    states = [
        run(engine, "prefill_to_last_hidden_states", TOKENS[:9]),
        run(engine, "decode_to_last_hidden_states", TOKENS[9:10]),
        run(engine, "batch_prefill_to_last_hidden_states", TOKENS[10:13]),
        run(engine, "batch_decode_to_last_hidden_states", TOKENS[13:14]),
        run(engine, "batch_verify_to_last_hidden_states", TOKENS[14:18]),
    ]
    verified = run(engine, "batch_verify", TOKENS[18:])
    rows = tvm.runtime.tensor(np.concatenate(states))
    found = engine._each(lambda d: d._vm["get_logits"](rows, d._parameters).numpy())
    logits = np.concatenate([found[0], verified])
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    assert all(np.array_equal(device, found[0]) for device in found)


def test_indices_are_those_of_the_first_device(engine: Engine) -> None:
    states = np.arange(5 * 64, dtype=np.float32).reshape(5, 64)
    chosen = np.array([4, 0, 2], np.int32)

    def own(n: int) -> list[Any]:
        vm = engine._devices[n]._vm
        index = [tvm.runtime.tensor(chosen if n == 0 else chosen * 0) for _ in range(3)]
        source = tvm.runtime.tensor(states)
        empty = [tvm.runtime.tensor(np.zeros((rows, 64), np.float32)) for rows in (3, 5)]
        gathered = vm["gather_hidden_states"](source, index[0], empty[0])
        scattered = vm["scatter_hidden_states"](gathered, index[1], empty[1])
        selected = vm["batch_select_last_hidden_states"](source, index[2])
        return [gathered.numpy(), scattered.numpy(), selected.numpy()]

    back = np.zeros_like(states)
    back[chosen] = states[chosen]
    for found in engine._workers.run(own):
        for array, expected in zip(found, (states[chosen], back, states[chosen]), strict=True):
            assert np.array_equal(array, expected)


def test_a_device_holds_its_part_of_its_stage(engine: Engine) -> None:
    params = engine.metadata["params"]
    for n, device in enumerate(engine._devices):
        for entry, held in zip(params, device._parameters, strict=True):
            assert (held is not None) == (n // 2 in entry["pipeline_stages"])
            assert held is None or list(held.shape) == entry["shape"]
    sizes = [
        sum(p.numpy().size for p in device._parameters[1:] if p is not None)
        for device in engine._devices
    ]
    assert len(set(sizes)) == 1


def test_the_parts_of_a_function(divided: Built) -> None:
    module = canonical_ir.load(divided.module)
    names = {str(v.name_hint) for v, f in module.functions_items() if isinstance(f, relax.Function)}
    cut = {name.partition("_stage")[0] for name in names if "_stage" in name}
    assert cut == {
        "prefill",
        "decode",
        "batch_prefill",
        "batch_decode",
        "batch_verify",
        "prefill_to_last_hidden_states",
        "decode_to_last_hidden_states",
        "batch_prefill_to_last_hidden_states",
        "batch_decode_to_last_hidden_states",
        "batch_verify_to_last_hidden_states",
    }
    assert {name for name in names if "_stage" in name} == {
        f"{name}_stage{n}" for name in cut for n in (0, 1)
    }


def test_metadata(divided: Built) -> None:
    described = json.loads(divided.metadata)
    assert described["tensor_parallel_shards"] == described["pipeline_parallel_stages"] == 2
    assert described["kv_cache"]["num_key_value_heads"] == 1
    entry = next(p for p in described["params"] if "layers.1.self_attn.qkv" in p["name"])
    assert entry == {
        "name": "model.layers.1.self_attn.qkv_proj.weight",
        "shape": [64, 64],
        "dtype": "float32",
        "preprocs": [
            {
                "func_name": "_shard_qkv",
                "in_shape": [128, 64],
                "out_shape": [2, 64, 64],
                "out_dtype": "float32",
            }
        ],
        "pipeline_stages": [1],
    }
    assert described["params"][0]["pipeline_stages"] == [0, 1]
