from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import digest, merkle
from cache.digest import EMPTY, Digest
from cache.errors import CacheError, CorruptBlob, InvalidPath, MissingBlob
from cache.merkle import Tree
from cache.protocol import remote_execution_pb2 as reapi

A, B = digest.of_bytes(b"a"), digest.of_bytes(b"b")
NAMES = st.sampled_from(["a", "b", "c.bin", "é", "漢", "a.b", "a-b", "-", "..."])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES = st.dictionaries(PATHS, st.sampled_from([A, B, EMPTY]), max_size=10).filter(
    lambda entries: not any(other.startswith(path + "/") for path in entries for other in entries)
)


@given(ENTRIES)
def test_files_is_the_inverse_of_tree(entries: dict[str, Digest]) -> None:
    found = merkle.files(merkle.tree(entries))
    assert found == entries
    assert list(found) == sorted(found)


@given(ENTRIES, st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_count(
    entries: dict[str, Digest], rng: random.Random
) -> None:
    shuffled = list(entries.items())
    rng.shuffle(shuffled)
    assert merkle.tree(dict(shuffled)) == merkle.tree(entries)


@given(ENTRIES, ENTRIES)
def test_the_root_identifies_the_files(one: dict[str, Digest], two: dict[str, Digest]) -> None:
    assert (merkle.tree(one).root == merkle.tree(two).root) == (one == two)


@given(ENTRIES, PATHS)
def test_a_ready_subtree_is_the_same_as_its_files(entries: dict[str, Digest], path: str) -> None:
    subtree = merkle.tree(entries)
    whole = merkle.tree({path: subtree, "other/file": A})
    if entries:
        flat = {f"{path}/{name}": value for name, value in entries.items()}
        assert whole == merkle.tree({**flat, "other/file": A})
    assert subtree.root in whole.blobs
    assert merkle.files(whole).keys() == {f"{path}/{name}" for name in entries} | {"other/file"}


def test_no_files_are_the_empty_message() -> None:
    assert merkle.tree({}) == Tree(EMPTY, {EMPTY: b""})
    assert merkle.files(merkle.tree({})) == {}


def test_names_sort_by_code_point_not_by_path() -> None:
    """The Remote Execution API sorts the names of each directory; "a-b" < "a/" would mislead."""
    tree = merkle.tree({"a/x": A, "a-b": A, "Z": A, "é": A})
    message = reapi.Directory.FromString(tree.blobs[tree.root])
    assert [node.name for node in message.files] == ["Z", "a-b", "é"]
    assert [node.name for node in message.directories] == ["a"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "is empty"),
        ("/", "is absolute"),
        ("/a", "is absolute"),
        ("//a", "is absolute"),
        ("a/", "empty part"),
        ("a//b", "empty part"),
        (".", '"."'),
        ("./a", '"."'),
        ("a/.", '"."'),
        ("..", '".."'),
        ("../a", '".."'),
        ("a/../b", '".."'),
        ("a/..", '".."'),
        ("a\\b", "backslash"),
        ("..\\a", "backslash"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("\x1b[2J", "control"),
        ("a/\x7f", "control"),
        ("\ud800", "Unicode"),
        ("a" * 5000, "longer"),
        ("é" * 2049, "longer"),
        ("a/" * 3000 + "a", "longer"),
    ],
)
def test_invalid_paths_are_refused(path: str, reason: str) -> None:
    for refuse in (merkle.check_path, lambda path: merkle.tree({path: A})):
        with pytest.raises(InvalidPath, match=reason) as caught:
            refuse(path)
        assert caught.value.hint
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "path", ["a", "...", "..a", "a..", ".a", "a b", "漢/é", "a" * 4096, "a/" * 2047 + "a"]
)
def test_unusual_paths_are_not(path: str) -> None:
    merkle.check_path(path)
    assert merkle.files(merkle.tree({path: A})) == {path: A}


@pytest.mark.parametrize(
    "entries",
    [
        {"a": A, "a/b": A},
        {"a/b": A, "a": A},
        {"x/a": A, "x/a/b/c": A},
        {"a": merkle.tree({"x": A}), "a/b": A},
        {"a/b": A, "a": merkle.tree({})},
    ],
)
def test_a_file_is_no_directory(entries: dict[str, Digest | Tree]) -> None:
    with pytest.raises(InvalidPath, match="is a directory, and also"):
        merkle.tree(entries)


def node(name: str, value: Digest = A) -> dict[str, Any]:
    return {"name": name, "digest": {"hash": value.hash, "size_bytes": value.size}}


def forged(**fields: Any) -> Tree:
    data = reapi.Directory(**fields).SerializeToString()
    root = digest.of_bytes(data)
    return Tree(root, {root: data, EMPTY: b""})


@pytest.mark.parametrize(
    "tree",
    [
        forged(files=[node("..")]),
        forged(files=[node("")]),
        forged(files=[node("a/b")]),
        forged(files=[node("/etc")]),
        forged(directories=[node("..", EMPTY)]),
        forged(directories=[node("a/../b", EMPTY)]),
        forged(files=[node("a"), node("a", B)]),
        forged(files=[node("a")], directories=[node("a", EMPTY)]),
        forged(directories=[node("a", EMPTY), node("a", EMPTY)]),
        forged(symlinks=[{"name": "a", "target": "/etc/passwd"}]),
    ],
)
def test_a_forged_tree_is_refused(tree: Tree) -> None:
    with pytest.raises(InvalidPath):
        merkle.files(tree)


def test_a_forged_digest_is_refused() -> None:
    with pytest.raises(CorruptBlob, match="not a digest"):
        merkle.files(forged(files=[{"name": "a", "digest": {"hash": "../../x", "size_bytes": 1}}]))


def test_a_tree_without_a_directory_is_refused() -> None:
    tree = merkle.tree({"a/b": A})
    for absent in tree.blobs:
        blobs = {name: data for name, data in tree.blobs.items() if name != absent}
        with pytest.raises(MissingBlob):
            merkle.files(Tree(tree.root, blobs))


def test_a_tree_with_other_bytes_is_refused() -> None:
    tree = merkle.tree({"a/b": A})
    other = merkle.tree({"a/c": A})
    for name in tree.blobs:
        with pytest.raises(CorruptBlob):
            merkle.files(Tree(tree.root, {**tree.blobs, name: other.blobs[other.root]}))


def test_a_small_tree_may_not_unfold_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle, "MAX_ENTRIES", 10_000)
    blobs = {EMPTY: b""}
    root = EMPTY
    for _ in range(60):  # 2 to the 60 directories
        data = reapi.Directory(directories=[node("a", root), node("b", root)]).SerializeToString()
        root = digest.of_bytes(data)
        blobs[root] = data
    with pytest.raises(CorruptBlob, match="more than"):
        merkle.files(Tree(root, blobs))


@given(st.binary(max_size=80))
def test_garbage_is_refused(data: bytes) -> None:
    root = digest.of_bytes(data)
    try:
        found = merkle.files(Tree(root, {root: data}))
    except CacheError:
        return
    for path in found:
        merkle.check_path(path)
