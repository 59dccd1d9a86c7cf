"""`[cluster]` of the matrix, what is over it, and what nodes ask of a worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks import plan as plan_module
from tasks.configuration.cluster import ClusterSettings, chosen, cluster_of, read_cluster
from tasks.configuration.matrix import parse
from tasks.configuration.mistakes import Mistakes
from tasks.errors import BuildError
from tasks.node import Graph
from tasks.plan import plan
from tasks.verification import Missing
from tests.tasks.toy import Project

ADDRESS = "grpcs://cluster.example.org/main"
TARGETS = ("linux-x86_64-cpu", "linux-x86_64-cuda")
ROOT = Path(__file__).resolve().parents[3]


def read(value: object) -> tuple[ClusterSettings, list[str]]:
    mistakes = Mistakes()
    return read_cluster(value, Path("/project"), TARGETS, mistakes), mistakes.lines


def test_every_key() -> None:
    table = {
        "executor": ADDRESS,
        "platform": {"OSFamily": "linux", "ISA": "x86-64"},
        "targets": {"linux-x86_64-cuda": {"container-image": "cuda", "ISA": "x86-64-v3"}},
        "programs": {"nvcc": "13.0.88"},
        "authority": "ca.pem",
        "certificate": "me.pem",
        "key": "/me.key",
        "compression": False,
    }
    found, mistakes = read(table)
    assert not mistakes
    assert not found.compression
    assert (found.address, found.programs) == (ADDRESS, {"nvcc": "13.0.88"})
    assert found.properties() == (("ISA", "x86-64"), ("OSFamily", "linux"))
    assert found.properties("linux-x86_64-cpu") == found.properties()
    assert found.properties("linux-x86_64-cuda") == (
        ("ISA", "x86-64-v3"),
        ("OSFamily", "linux"),
        ("container-image", "cuda"),
    )
    assert (found.authority, found.key) == (Path("/project/ca.pem"), Path("/me.key"))


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ("x", "cluster: expected a table, found str"),
        ({"executer": ADDRESS}, "did you mean 'executor'?"),
        ({"executor": 1}, "cluster.executor: expected a text"),
        ({"compression": 1}, "cluster.compression: expected true or false"),
        (
            {"executor": "https://x"},
            "executor: 'https://x' (hint: it begins with one of grpc://, grpcs://)",
        ),
        ({"executor": "x"}, "not the address of a remote executor: 'x'"),
        ({"executor": "grpc://u:p@x"}, "a token into OLMILL_REMOTE_EXECUTOR_TOKEN"),
        ({"executor": "grpc://me:hunter2@x"}, "put them into a netrc file"),
        ({"platform": "linux"}, "cluster.platform: expected a table of texts, found str"),
        ({"platform": {"cores": 4}}, "cluster.platform.cores: expected a text, found 4"),
        ({"targets": "x"}, "cluster.targets: expected tables, found str"),
        ({"targets": {"linux-x86_64-cuba": {}}}, "did you mean 'linux-x86_64-cuda'?"),
        ({"targets": {"linux-x86_64-cpu": 1}}, "cluster.targets.linux-x86_64-cpu: expected a"),
        ({"key": ""}, "cluster.key: expected a text"),
    ],
)
def test_mistakes(table: object, mistake: str) -> None:
    (line,) = read(table)[1]
    assert mistake in line
    assert "hunter2" not in line


def test_the_option_comes_before_the_environment_and_that_before_the_matrix() -> None:
    settings = ClusterSettings(ADDRESS, {"OSFamily": "linux"}, certificate=Path("/me.pem"))
    environment = {"OLMILL_REMOTE_EXECUTOR": "grpc://two"}
    assert chosen(settings, {}, None) == settings
    assert chosen(settings, {}, ADDRESS) == settings
    assert chosen(settings, environment, None).address == "grpc://two"
    assert chosen(settings, environment, "grpc://three").address == "grpc://three"
    assert chosen(settings, {"OLMILL_REMOTE_EXECUTOR": ""}, None).address is None
    assert chosen(settings, environment, "").address is None
    other = chosen(settings, environment, None)
    assert (other.certificate, other.platform) == (None, settings.platform)
    with pytest.raises(BuildError, match="--remote-executor: not the address of a remote executor"):
        chosen(settings, {}, "s3://bucket")
    with pytest.raises(BuildError, match="OLMILL_REMOTE_EXECUTOR: not the address of"):
        chosen(settings, {"OLMILL_REMOTE_EXECUTOR": "host:80"}, None)
    assert cluster_of(ClusterSettings(), {}) is None


def test_the_token_goes_to_the_cluster_alone() -> None:
    environment = {"OLMILL_REMOTE_EXECUTOR_TOKEN": "secret", "OLMILL_REMOTE_CACHE_TOKEN": "other"}
    cluster = cluster_of(ClusterSettings("grpc://x"), environment)
    assert cluster is not None
    connection = cluster.executor._connection
    assert connection.metadata == (("authorization", "Bearer secret"),)
    cluster.close()


def planned(**cluster: Any) -> Graph:
    value = {
        "models": {"olmo-tiny": {"source": "embedded"}},
        "release": [
            {
                "models": ["olmo-tiny"],
                "quantizations": ["q4f16_1"],
                "windows": [256],
                "targets": ["linux-x86_64-cpu", "linux-x86_64-cuda", "webgpu"],
            }
        ],
        "cluster": cluster,
    }
    return plan(parse(value, ROOT / "matrix.toml"), Missing)


def test_which_nodes_a_cluster_runs() -> None:
    nodes = planned().nodes.values()
    remote = {node.kind for node in nodes if node.remote}
    assert remote == {"kernels", "wasm_runtime", "convert", "lower", "compile", "verify"}
    assert remote.isdisjoint(node.kind for node in nodes if not node.remote)
    assert all(node.platform == () for node in nodes)


def test_properties_are_of_the_nodes_that_a_cluster_runs() -> None:
    nodes = planned(
        platform={"OSFamily": "linux"},
        targets={"linux-x86_64-cuda": {"container-image": "cuda"}},
    ).nodes
    for name, node in nodes.items():
        expected = {"OSFamily": "linux"} if node.remote else {}
        if name in (
            "compile:olmo-tiny:q4f16_1:256:linux-x86_64-cuda",
            "verify:olmo-tiny:q4f16_1:256:linux-x86_64-cuda",
        ):
            expected["container-image"] = "cuda"
        assert dict(node.platform) == expected, name


def test_programs_of_the_workers_stand_in_for_those_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none(kind: str) -> dict[str, str]:
        if kind == "cuda":
            raise plan_module.OlmoError("no nvcc", "install it")
        return {}

    monkeypatch.setattr(plan_module, "tools", none)
    name = "compile:olmo-tiny:q4f16_1:256:linux-x86_64-cuda"
    workspace = Project(tmp_path / "p", tmp_path / "cache").session().workspace
    cluster = cluster_of(ClusterSettings("grpc://x"), {})
    for programs, known in (
        ({}, False),
        ({"nvcc": "13.0.88"}, False),
        ({"nvcc": "13.0.88", "g++": "12.2.0", "zig": "1"}, True),
    ):
        node = planned(programs=programs).nodes[name]
        assert node.missing == "no nvcc\nhint: install it"
        assert dict(node.programs) == ({"nvcc": "13.0.88", "g++": "12.2.0"} if known else {})
        assert workspace.lacks(node) == node.missing
        assert replace(workspace, cluster=cluster).lacks(node) == (None if known else node.missing)
