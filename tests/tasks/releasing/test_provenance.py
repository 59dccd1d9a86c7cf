"""What a statement says a release comes from."""

import pytest

from cache.action import Action, encode
from cache.merkle import tree
from tasks.fingerprint import Code
from tasks.keys import Keyed
from tasks.node import Node
from tasks.releasing.provenance import purl, tools


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
    action = encode(Action(("run",), tree({}), ("outputs",), (), b""))
    keyed = Keyed(node, action, {}, Code({}, {"ml_dtypes": "0.6.0"}))
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
