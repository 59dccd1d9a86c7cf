import json
from typing import Any

import pytest
import tvm

from olmo.cpu_schedule import vector_lanes
from olmo.errors import OlmoError
from olmo.lower import LOWERING_TARGETS
from olmo.target import Target
from olmo.targets import TARGETS, custom, target

LINUX = "linux-x86_64-cpu"


@pytest.mark.parametrize("chosen", TARGETS.values(), ids=lambda t: t.name)
def test_every_target_is_one_that_tvm_knows(chosen: Target) -> None:
    assert chosen.kind in LOWERING_TARGETS
    assert tvm.target.Target(dict(chosen.tvm)).kind.name == chosen.kind
    assert chosen.tvm["mtriple"]  # never the one of the build machine
    assert Target.from_json(json.loads(chosen.to_json())).to_json() == chosen.to_json()


def test_linux() -> None:
    chosen = target(LINUX)
    assert (chosen.suffix, chosen.tvm["mcpu"]) == (".so", "x86-64-v3")
    assert vector_lanes(tvm.target.Target(dict(chosen.tvm))) == 8


def test_unknown_targets() -> None:
    with pytest.raises(OlmoError, match="unknown target 'linux-x86-cpu'") as caught:
        target("linux-x86-cpu")
    assert caught.value.hint == f"did you mean {LINUX!r}?"


def test_a_target_of_ones_own() -> None:
    mine = custom("mine", LINUX, {"mcpu": "x86-64-v4", "mattr": ["+avx512f"]})
    assert mine.name == "mine"
    assert mine.tvm == {**target(LINUX).tvm, "mcpu": "x86-64-v4", "mattr": ["+avx512f"]}
    assert mine.to_json() != target(LINUX).to_json()
    assert custom("same", LINUX, {}).to_json() == target(LINUX).to_json()


@pytest.mark.parametrize(("cpu", "lanes"), [("x86-64", 4), ("x86-64-v3", 8), ("x86-64-v4", 16)])
def test_vector_lanes(cpu: str, lanes: int) -> None:
    mine = custom("mine", LINUX, {"mcpu": cpu})
    assert vector_lanes(tvm.target.Target(dict(mine.tvm))) == lanes


@pytest.mark.parametrize(
    ("name", "base", "overrides", "message"),
    [
        (LINUX, LINUX, {}, "is built in"),
        ("mine", "linux", {}, "unknown target 'linux'"),
        ("mine", LINUX, {"mpu": "x86-64"}, "unknown option of target 'mine' 'mpu'"),
        ("mine", LINUX, {"mcpu": ["x"]}, "mcpu must be a CPU name"),
        ("mine", LINUX, {"mcpu": "a b"}, "mcpu must be a CPU name"),
        ("mine", LINUX, {"mattr": "+fma"}, "mattr must be a list of features"),
        ("mine", LINUX, {"mattr": ["fma"]}, "mattr must be a list of features"),
    ],
)
def test_bad_targets(name: str, base: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(OlmoError, match=message):
        custom(name, base, overrides)
