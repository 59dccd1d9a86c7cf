"""A receipt that was damaged, or edited, or is none: it counts as none, or names harmless places."""

import json
import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import digest as digests
from cache.local.store import LocalStore
from cache.tiered import TieredStore
from tasks.node import graph
from tasks.workspace import Workspace, read_receipt, receipt_path, write_receipt
from tests.cache.mutations import mutated

NAME = "step:a"
OUTPUTS = {"out.txt": digests.of_bytes(b"1"), "lib/x.so": digests.of_bytes(b"2")}
RIGHT = json.dumps({"outputs": {path: str(digest) for path, digest in OUTPUTS.items()}}).encode()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["outputs", "../x", "a"]), inner)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    place = tmp_path_factory.mktemp("receipts")
    made = Workspace(place, place, graph([], []), TieredStore(LocalStore(place / "cache")))
    write_receipt(made, NAME, OUTPUTS)
    return made


def test_a_receipt_is_read_as_it_was_written(workspace: Workspace) -> None:
    write_receipt(workspace, NAME, OUTPUTS)
    assert read_receipt(workspace, NAME) == OUTPUTS


@given(mutated(st.just(RIGHT)) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(workspace: Workspace, data: bytes) -> None:
    path: Path = receipt_path(workspace, NAME)
    path.write_bytes(data)
    for place, digest in (read_receipt(workspace, NAME) or {}).items():
        assert not posixpath.normpath(place).startswith(("/", ".."))
        assert digests.parse(str(digest)) == digest


def test_what_never_ends(workspace: Workspace) -> None:
    receipt_path(workspace, NAME).write_bytes(b"[" * 1_000_000)
    assert read_receipt(workspace, NAME) is None
