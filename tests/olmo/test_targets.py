import json
from typing import Any

import pytest
import tvm

from olmo.compilation.cpu_schedule import vector_lanes
from olmo.errors import OlmoError
from olmo.modeling.lowering_target import LOWERING_TARGETS
from olmo.target import Target, symbol_prefix
from olmo.targets import TARGETS, custom, suffixes, target

LINUX = "linux-x86_64-cpu"


@pytest.mark.parametrize("chosen", TARGETS.values(), ids=lambda t: t.name)
def test_every_target_is_one_that_tvm_knows(chosen: Target) -> None:
    assert chosen.kind in LOWERING_TARGETS
    host = {} if chosen.host is None else {"host": dict(chosen.host)}
    assert tvm.target.Target({**chosen.tvm, **host}).kind.name == chosen.tvm["kind"]
    assert chosen.triple  # never the one of the build machine
    assert chosen.suffix == suffixes(chosen)[0]
    assert Target.from_json(json.loads(chosen.to_json())).to_json() == chosen.to_json()


def test_linux() -> None:
    chosen = target(LINUX)
    assert (chosen.suffix, chosen.tvm["mcpu"]) == (".so", "x86-64-v3")
    assert vector_lanes(tvm.target.Target(dict(chosen.tvm))) == 8


def test_unknown_targets() -> None:
    with pytest.raises(OlmoError, match="unknown target 'linux-x86-cpu'") as caught:
        target("linux-x86-cpu")
    assert caught.value.hint == f"did you mean {LINUX!r}?"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("cuda", "linux-x86_64-cuda"),
        ("iphone", "ios-arm64-metal"),
        ("metal", "macos-arm64-metal"),
        ("android", "android-arm64-opencl"),
        ("cpu", LINUX),
    ],
)
def test_names_that_mlc_has(alias: str, name: str) -> None:
    assert target(alias) is TARGETS[name]


@pytest.mark.parametrize("name", ["vulkan", "rocm"])
def test_what_cannot_be_built_says_why(name: str) -> None:
    with pytest.raises(OlmoError, match=f"target '{name}' cannot be built: the TVM wheel has n"):
        target(name)


def test_options_of_a_target_of_ones_own() -> None:
    mine = custom("mine", "cuda", {"archs": ["sm_90", "sm_75"], "opt": "O3;cudagraph=0"})
    assert (mine.archs, mine.tvm["arch"], mine.opt) == (
        ("sm_75", "sm_90"),
        "sm_75",
        "O3;cudagraph=0",
    )
    static = custom("static", "windows-x86_64-cpu", {"suffix": ".tar"})
    assert static.system_lib
    assert not TARGETS["windows-x86_64-cpu"].system_lib


@pytest.mark.parametrize(
    ("model", "prefix"),
    [("olmo-tiny", "olmo_tiny_q4f16_1_"), ("a", "a_q4f16_1_"), ("o.1", "o_1_q4f16_1_")],
)
def test_symbol_prefix(model: str, prefix: str) -> None:
    assert symbol_prefix(model, "q4f16_1") == prefix


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
        ("mine", LINUX, {"suffix": ".dll"}, "does not end in '.dll'"),
        ("mine", LINUX, {"opt": "O5"}, "unknown optimisation level 'O5'"),
        ("mine", LINUX, {"opt": 2}, "opt must be text"),
        ("mine", "cuda", {"archs": ["80"]}, "archs must be a list of CUDA architectures"),
        ("mine", "cuda", {"archs": []}, "archs must be a list of CUDA architectures"),
        ("mine", "metal", {"max_threads_per_block": 7}, "must be a number of threads"),
        ("cuda", LINUX, {}, "target 'cuda' is built in"),
    ],
)
def test_bad_targets(name: str, base: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(OlmoError, match=message):
        custom(name, base, overrides)
