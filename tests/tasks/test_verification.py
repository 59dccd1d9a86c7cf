"""Which way each target's libraries are verified, and what becomes of tools that are missing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cache.local.store import LocalStore
from cache.tiered import TieredStore
from olmo import targets
from olmo.verification.emulator import DESCRIPTION, PACKAGES
from tasks import verification
from tasks.configuration.matrix import load
from tasks.fingerprint import version
from tasks.keys import Keys
from tasks.node import Graph, Source
from tasks.plan import plan
from tasks.realise import outputs_of
from tasks.verification import Find, Missing, Way, find, way
from tasks.workspace import Workspace, write_receipt

ROOT = Path(__file__).resolve().parents[2]
NODE = "verify:m:q0f32:256:{}"


@pytest.fixture(autouse=True)
def x86_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan as on Linux on x86-64, whatever runs the tests."""
    monkeypatch.setattr(targets.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(targets.sys, "platform", "linux")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linux-x86_64-cpu", Way("verify")),
        ("linux-aarch64-cpu", Way("emulate", ("aarch64",))),
        ("android-arm64-opencl", Way("check_library", ("opencl",))),
        ("windows-x86_64-opencl", Way("check_library", ("opencl",))),
        ("windows-x86_64-cpu", Way("check_library")),
        ("macos-arm64-metal", Way("check_library")),
        ("ios-arm64-metal", Way("check_library")),
        ("linux-x86_64-cuda", Way("check_library")),
        ("wasm-cpu", Way("verify_web", ("web",))),
        ("webgpu", Way("verify_web", ("web", "chromium"))),
    ],
)
def test_the_way_of_each_target(name: str, expected: Way) -> None:
    assert way(targets.TARGETS[name]) == expected


def test_a_static_library_is_not_run() -> None:
    for name in ("linux-x86_64-cpu", "linux-aarch64-cpu"):
        assert way(replace(targets.TARGETS[name], suffix=".tar")) == Way("check_library")


def test_another_machine_runs_other_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.platform, "machine", lambda: "aarch64")
    assert way(targets.TARGETS["linux-aarch64-cpu"]) == Way("verify")
    assert way(targets.TARGETS["linux-x86_64-cpu"]) == Way("emulate", ("x86_64",))
    assert find("x86_64") == Missing(
        "this is no machine for x86_64", "doit on a machine for x86_64"
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give the tools of verification another place, where there are none."""
    place = tmp_path.joinpath
    monkeypatch.setattr(verification, "place", place)
    return place


def test_nothing_is_installed(place: Callable[[str], Path]) -> None:
    assert place("opencl").name == "opencl"
    assert find("opencl") == Missing("the headers of OpenCL C are not installed")
    assert find("aarch64") == Missing("no emulated aarch64 machine is installed")
    assert Missing("anything").install == "python3 bootstrap.py verify"


def test_headers(place: Callable[[str], Path]) -> None:
    place("opencl").mkdir()
    (place("opencl") / "opencl-c.h").touch()
    assert find("opencl") == Source("tool:opencl", place("opencl"), ("*.h",))


def describe(place: Path, **versions: str) -> None:
    place.mkdir(exist_ok=True)
    value = {
        "emulator": "e",
        "version": "e 1",
        "python": "p",
        "packages": {name: version(name) for name in PACKAGES} | versions,
        "system": {},
    }
    (place / DESCRIPTION).write_text(json.dumps(value))


def test_a_machine(place: Callable[[str], Path]) -> None:
    describe(place("aarch64"))
    assert find("aarch64") == Source("tool:aarch64", place("aarch64"), (DESCRIPTION,))


def test_a_machine_with_other_packages(place: Callable[[str], Path]) -> None:
    describe(place("aarch64"), numpy="1.0")
    wanted = version("numpy")
    assert find("aarch64") == Missing(f"the emulated aarch64 machine has numpy 1.0, not {wanted}")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"emulator": 1}'])
def test_a_damaged_description(place: Callable[[str], Path], text: str) -> None:
    place("aarch64").mkdir()
    (place("aarch64") / DESCRIPTION).write_text(text)
    assert find("aarch64") == Missing("no emulated aarch64 machine is installed")


def planned(tmp_path: Path, find: Find) -> Graph:
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(f"""
[models.m]
source = "local"
path = "{ROOT / "tests/golden/pub-a"}"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu", "linux-aarch64-cpu", "android-arm64-opencl"]
""")
    return plan(load(matrix), find)


def test_what_is_missing_is_a_parameter(tmp_path: Path) -> None:
    graph = planned(tmp_path, lambda tool: Missing(f"no {tool}", "install it"))
    assert not [name for name in graph.sources if name.startswith("tool:")]
    for target, what in [("linux-aarch64-cpu", "aarch64"), ("android-arm64-opencl", "opencl")]:
        node = graph.nodes[NODE.format(target)]
        assert node.action == "tasks.actions.check_library"
        missing = json.loads(node.params)["missing"]
        assert missing == {"what": f"no {what}", "install": "install it"}
    assert json.loads(graph.nodes[NODE.format("linux-x86_64-cpu")].params)["missing"] is None


def test_what_is_found_is_read(tmp_path: Path) -> None:
    graph = planned(tmp_path, lambda tool: Source(f"tool:{tool}", tmp_path / tool, ("*",)))
    assert {"tool:aarch64", "tool:opencl"} <= set(graph.sources)
    node = graph.nodes[NODE.format("linux-aarch64-cpu")]
    assert node.action == "tasks.actions.emulate"
    assert json.loads(node.params)["missing"] is None
    assert node.inputs[-1].producer == "tool:aarch64"


def test_a_tool_installed_later_or_another_one_makes_another_key(tmp_path: Path) -> None:
    """So a report without the tool is never taken for one with it."""
    tool = tmp_path / "tool"
    tool.mkdir()

    def key(find: Find) -> str:
        graph = planned(tmp_path, find)
        space = Workspace(tmp_path, ROOT, graph, TieredStore(LocalStore(tmp_path / "store")))
        for name in graph.nodes:
            write_receipt(space, name, {})
        node = graph.nodes[NODE.format("android-arm64-opencl")]
        return Keys(space).keyed(node, lambda selection: outputs_of(space, selection)).key.hash

    def here(name: str) -> Source | Missing:
        return Source(f"tool:{name}", tool, ("*",))

    keys = [key(lambda _name: Missing("not here"))]
    for content in ("one", "another"):
        (tool / "header.h").write_text(content)
        keys.append(key(here))
    assert len(set(keys)) == 3
    (tool / "header.h").write_text("one")
    assert key(here) == keys[1]
