import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.errors import OlmoError
from olmo.parallel import Division, check_shards, layer_partition, placed
from olmo.quantizations import QUANTIZATIONS
from olmo.weights import Parameter, parameters
from tests.olmo.sample_checkpoints import config

WIDE = {"hidden_size": 128, "num_key_value_heads": 4, "intermediate_size": 256}


def divided(quantization: str, shards: int = 2, **changes: Any) -> dict[str, Division | None]:
    model = config(**WIDE | changes).with_overrides(tensor_parallel_shards=shards)
    tensors = placed(model, QUANTIZATIONS[quantization])
    return {tensor.parameter.name: tensor.division for tensor in tensors}


def test_one_device_has_every_tensor_whole() -> None:
    model, q = config(), QUANTIZATIONS["q4f16_1"]
    tensors = placed(model, q)
    assert tuple(t.parameter for t in tensors) == parameters(model, q)
    assert all(t.local is t.parameter for t in tensors)
    assert all((t.presharded, t.stages) == ((t.parameter,), (0,)) for t in tensors)


def test_which_axis_and_segments() -> None:
    found = divided("q0f16", num_key_value_heads=2)
    assert found["model.embed_tokens.weight"] is None
    assert found["lm_head.weight"] is None
    names = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    rows = []
    for name in names:
        division = found[f"model.layers.1.{name}.weight"]
        assert division is not None
        rows.append((division.function, division.axis, division.segments, division.part.shape))
    assert rows == [
        ("_shard_qkv", 0, (128, 64, 64), (128, 128)),
        ("_shard_o", 1, (128,), (128, 64)),
        ("_shard_mlp_up", 0, (256, 256), (256, 128)),
        ("_shard_mlp_down", 1, (256,), (128, 128)),
    ]


def test_quantized_tensors_are_divided_alike() -> None:
    found = divided("q4f16_1")
    packed = found["model.layers.0.mlp.down_proj.q_weight"]
    scales = found["model.layers.0.mlp.down_proj.q_scale"]
    assert packed is not None
    assert scales is not None
    assert (packed.function, packed.part.shape) == ("_shard_mlp_down_q_weight", (128, 16))
    assert (scales.function, scales.part.shape) == ("_shard_mlp_down_q_scale", (128, 4))


def test_a_scale_of_the_whole_tensor_belongs_to_every_part() -> None:
    found = divided("e4m3_e4m3_f16")
    assert found["model.layers.0.self_attn.qkv_proj.q_weight"] is not None
    assert found["model.layers.0.self_attn.qkv_proj.q_scale"] is None
    assert found["model.layers.0.self_attn.qkv_proj.q_calibration_scale"] is None


def test_names_of_parts() -> None:
    model = config().with_overrides(tensor_parallel_shards=2)
    names = [p.name for t in placed(model, QUANTIZATIONS["q0f32"]) for p in t.presharded]
    assert names[:4] == [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.qkv_proj.weight_shard-0",
        "model.layers.0.self_attn.qkv_proj.weight_shard-1",
        "model.layers.0.self_attn.o_proj.weight_shard-0",
    ]


@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(0, 1),
    st.integers(1, 4),
)
def test_parts_are_the_tensor(shards: int, units: list[int], axis: int, other: int) -> None:
    segments = tuple(unit * shards for unit in units)
    shape = (sum(segments), other) if axis == 0 else (other, sum(segments))
    division = Division(Parameter("w", shape, "float32"), "_shard", axis, segments, shards)
    whole = np.arange(math.prod(shape)).reshape(shape)
    parts = [
        np.concatenate([whole[index] for index in division.pieces(shard)], axis=axis)
        for shard in range(shards)
    ]
    assert {part.shape for part in parts} == {division.part.shape}
    of_whole = np.split(whole, np.cumsum(segments)[:-1], axis)
    of_parts = [np.split(part, np.cumsum(units)[:-1], axis) for part in parts]
    for number, segment in enumerate(of_whole):
        shares = [pieces[number] for pieces in of_parts]
        assert np.array_equal(np.concatenate(shares, axis), segment)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ("q4f16_0", "q4f16_0 with tensor_parallel_shards 2: the transposed layout KN"),
        ("q3f16_0", "layout KN"),
        ("q4f16_awq", "AWQ's packed weights are not divided"),
        ("q4f16_1", "the 48 inputs of model.layers.0.mlp.down_proj are not groups of 32"),
    ],
)
def test_what_is_not_divided(quantization: str, message: str) -> None:
    model = config(hidden_size=64).with_overrides(tensor_parallel_shards=2)
    with pytest.raises(OlmoError, match=message):
        check_shards(model, QUANTIZATIONS[quantization])
    check_shards(dataclasses.replace(model, tensor_parallel_shards=1), QUANTIZATIONS[quantization])


def test_stages_have_whole_layers() -> None:
    model = config(num_hidden_layers=6).with_overrides(pipeline_parallel_stages=3)
    assert layer_partition(model) == (0, 2, 4, 6)
    stages = {t.parameter.name: t.stages for t in placed(model, QUANTIZATIONS["q0f16"])}
    assert stages["model.embed_tokens.weight"] == stages["lm_head.weight"] == (0, 1, 2)
    assert [stages[f"model.layers.{i}.mlp.down_proj.weight"] for i in range(6)] == [
        (0,),
        (0,),
        (1,),
        (1,),
        (2,),
        (2,),
    ]
