import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BuildError
from tasks.node import Node, Selection, Source, canonical_json, graph, producers


def node(name: str, *reads: str) -> Node:
    return Node(name, "toy", "{}", tuple(Selection(read, ("*",)) for read in reads), "build")


def test_nodes_are_ordered_producers_first() -> None:
    ordered = graph([node("c", "b", "a"), node("b", "a"), node("a")])
    assert list(ordered.nodes) == ["a", "b", "c"]


def test_cycle_is_named() -> None:
    with pytest.raises(BuildError, match=r"cycle: .*a.*→.*b"):
        graph([node("a", "b"), node("b", "a")])


def test_unknown_producer_is_named() -> None:
    with pytest.raises(BuildError, match="a reads ghost, which does not exist"):
        graph([node("a", "ghost")])


def test_a_name_belongs_to_one_node_or_source(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="two nodes are named a"):
        graph([node("a"), node("a")])
    with pytest.raises(BuildError, match="two nodes are named a"):
        graph([node("a")], [Source("a", tmp_path, ("*",))])


def test_selection_places_what_its_patterns_name() -> None:
    selection = Selection("a", ("*.bin", "index.json"), "model")
    assert selection.place("shard_0.bin") == "model/shard_0.bin"
    assert selection.place("index.json") == "model/index.json"
    assert selection.place("report.json") is None


def test_producers_are_named_once_in_order() -> None:
    twice = Node(
        "n",
        "toy",
        "{}",
        (Selection("b", ("x",)), Selection("a", ("*",)), Selection("b", ("y",))),
        "",
    )
    assert producers(twice) == ("b", "a")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_canonical_json_is_one_text_for_one_value(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


def test_canonical_json_has_no_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("nan"))


@given(st.lists(st.text("a[]!*?.b|", max_size=4), max_size=3), st.text("ab.|\n[", max_size=4))
def test_a_selection_matches_as_shells_do(patterns: list[str], path: str) -> None:
    expected = any(fnmatchcase(path, pattern) for pattern in patterns)
    assert (Selection("a", tuple(patterns)).place(path) is not None) == expected
