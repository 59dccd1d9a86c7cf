"""`[publish]`: names of repositories, and every mistake in them."""

from pathlib import Path
from typing import Any

import pytest

from tasks.configuration.matrix import Matrix, parse
from tasks.configuration.publication import Publication
from tasks.errors import BuildError
from tasks.releasing.repository_layout import is_owned

MATRIX = {
    "models": {"olmo-tiny": {"source": "embedded"}},
    "release": [
        {
            "models": ["olmo-tiny"],
            "quantizations": ["q0f32", "q4f16_1"],
            "windows": [256, 512],
            "targets": ["linux-x86_64-cpu", "webgpu"],
        }
    ],
}
REPO = "org/{model}-{quantization}-ctx{window}-MLC"


def read(**publish: Any) -> Matrix:
    return parse({**MATRIX, "publish": publish}, Path("matrix.toml"))


def test_a_matrix_without_it() -> None:
    assert parse(MATRIX, Path("matrix.toml")).publication is None


def test_a_repository_for_each_release_directory() -> None:
    matrix = read(repo=REPO)
    assert matrix.publication == Publication(REPO, "checked", private=True)
    names = {matrix.publication.repository(row) for row in matrix.rows}
    assert names == {
        f"org/olmo-tiny-{quantization}-ctx{window}-MLC"
        for quantization in ("q0f32", "q4f16_1")
        for window in (256, 512)
    }


def test_the_window_has_the_devices_behind_it() -> None:
    table = {**MATRIX["release"][0], "targets": ["linux-x86_64-cpu"], "tensor_parallel_shards": 2}
    matrix = parse({**MATRIX, "release": [table], "publish": {"repo": REPO}}, Path("matrix.toml"))
    assert matrix.publication is not None
    assert matrix.publication.repository(matrix.rows[0]) == "org/olmo-tiny-q0f32-ctx256-tp2-MLC"


@pytest.mark.parametrize(
    ("publish", "message"),
    [
        ({}, "publish: repo is missing"),
        ({"repo": 1}, "publish: repo is missing"),
        ({"repo": REPO, "verfied": "checked"}, "did you mean 'verified'?"),
        ({"repo": REPO, "verified": "check"}, "did you mean 'checked'?"),
        ({"repo": REPO, "private": 1}, "publish.private: expected true or false"),
        ({"repo": "org/{modle}"}, "did you mean 'model'?"),
        ({"repo": "org/{"}, "publish.repo: 'org/{'"),
        ({"repo": "org/{model:>9}"}, "has nothing behind it"),
        ({"repo": "org/{model.name}"}, "unknown name 'model.name'"),
        ({"repo": "{model}-{quantization}-{window}"}, "is no name of a repository"),
        ({"repo": "org/{model}--{quantization}-{window}"}, "without -- and .."),
        ({"repo": "o" * 90 + "/{model}-{quantization}-{window}"}, "at most 96 characters"),
        (
            {"repo": "org/{model}-{quantization}"},
            "org/olmo-tiny-q0f32 would be of olmo-tiny q0f32 256 and olmo-tiny q0f32 512",
        ),
    ],
)
def test_mistakes(publish: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError) as caught:
        read(**publish)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("least", "allowed"),
    [
        ("executed", {"executed"}),
        ("checked", {"executed", "checked"}),
        ("unverified", {"executed", "checked", "unverified"}),
    ],
)
def test_the_least_that_is_published(least: Any, allowed: set[str]) -> None:
    publication = Publication(REPO, least)
    states = ("executed", "checked", "unverified", "what nobody knows")
    assert {state for state in states if publication.allows(state)} == allowed


def test_only_its_own_files_are_deleted() -> None:
    own = ("libs/a.so", "provenance/a.json", "params_shard_3.bin", "tokenizer.json")
    others = ("README.md", ".gitattributes", "LICENSE", "config.json", "images/libs.png")
    assert all(map(is_owned, own))
    assert not any(map(is_owned, others))
