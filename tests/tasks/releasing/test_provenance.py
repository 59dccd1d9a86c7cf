"""What a statement says a release comes from."""

import tomllib
from pathlib import Path

import pytest

from cache.digest import EMPTY
from cache.merkle import tree
from tasks.configuration.matrix import parse
from tasks.fingerprint import Code
from tasks.keys import Keyed
from tasks.node import Node
from tasks.plan import package_of, plan
from tasks.releasing.provenance import parameters, purl, tools


def test_packages_and_programs_are_named_with_their_versions() -> None:
    """And properties of the workers of a cluster are none of them."""
    node = Node(
        "compile:c",
        "m",
        "{}",
        (),
        "build",
        programs=(("g++", "12.2.0"), ("nvcc", "13.0.88")),
        platform=(("OSFamily", "linux"),),
    )
    keyed = Keyed(node, EMPTY, (), Code({}, {"ml_dtypes": "0.6.0"}), tree({}))
    assert list(tools([keyed, keyed])) == [
        {"name": "tool/ml_dtypes", "uri": "pkg:pypi/ml-dtypes@0.6.0"},
        {"name": "tool/g++", "uri": "pkg:generic/g%2B%2B@12.2.0"},
        {"name": "tool/nvcc", "uri": "pkg:generic/nvcc@13.0.88"},
    ]


@pytest.mark.parametrize(
    ("kind", "name", "version", "url"),
    [
        ("pypi", "torch", "2.9.0+cpu", "pkg:pypi/torch@2.9.0%2Bcpu"),
        ("huggingface", "org/A model", "0f", "pkg:huggingface/org/A%20model@0f"),
        ("generic", "image", "a/b@sha256:0f", "pkg:generic/image@a%2Fb%40sha256:0f"),
    ],
)
def test_package_urls(kind: str, name: str, version: str, url: str) -> None:
    assert purl(kind, name, version) == url


@pytest.mark.parametrize(("given", "told"), [(None, None), ("raw", "raw"), ("f32-to-bf16", None)])
def test_all_that_the_matrix_says_of_a_row_is_a_parameter(
    given: str | None, told: str | None
) -> None:
    text = """
        [models.olmo-tiny]
        source = "embedded"
        [[release]]
        models = ["olmo-tiny"]
        quantizations = ["q0f32"]
        windows = [256]
        targets = ["linux-x86_64-cpu"]
    """
    if given is not None:
        text += f"[quantizations.q0f32]\nencoding = {given!r}"
    matrix = parse(tomllib.loads(text), Path("matrix.toml"))
    (row,) = matrix.rows
    found = parameters(matrix, row, plan(matrix).nodes[package_of(row)])
    assert found.get("encoding") == told
    assert found["model"]["source"] == "embedded"
    assert found["row"]["target"] == "linux-x86_64-cpu"
    assert found["target"]["kind"] == "llvm"
