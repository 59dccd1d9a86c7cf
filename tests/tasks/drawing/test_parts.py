"""What is drawn as one."""

from tasks.drawing.parts import MANY, parts
from tests.tasks.drawing.graphs import drawn, release


def test_a_small_graph_is_drawn_node_by_node() -> None:
    found = parts(drawn({"k:a": [], "k:b": ["k:a"]}), {"k:a": "current", "k:b": "stale"})
    assert {name: (part.nodes, part.reads, part.state) for name, part in found.items()} == {
        "k:a": (("k:a",), (), "current"),
        "k:b": (("k:b",), ("k:a",), "stale"),
    }


def test_lines_that_follow_from_others_are_left_out() -> None:
    graph = drawn({"a": [], "b": ["a"], "c": ["a", "b"], "d": ["a", "c"]})
    found = parts(graph, dict.fromkeys(graph.nodes, "current"))
    assert {name: part.reads for name, part in found.items()} == {
        "a": (), "b": ("a",), "c": ("b",), "d": ("c",),
    }  # fmt: skip


def test_nodes_without_a_state_are_left_out() -> None:
    graph = drawn({"a": [], "b": ["a"], "c": ["b"]})
    assert list(parts(graph, {"b": "current"})) == ["b"]


def test_of_a_large_graph_what_is_named_alike_is_one() -> None:
    graph = release()
    states = dict.fromkeys(graph.nodes, "current") | {"compile:m0:q:t1": "stale"}
    found = parts(graph, states)
    assert list(found) == [
        *("download:m0", "download:m1", "lower:m0:q", "lower:m1:q"),
        *("compile:m0:q", "compile:m1:q"),
    ]
    assert found["compile:m0:q"].state == "29 current, 1 stale"
    assert found["compile:m0:q"].worst == "stale"
    assert found["compile:m0:q"].reads == ("lower:m0:q",)
    assert found["compile:m1:q"].rest == "m1 q"
    assert len(parts(graph, states, every=True)) == len(graph.nodes) == 64


def test_no_coarser_than_it_takes() -> None:
    many = parts(release(models=MANY // 3), dict.fromkeys(release(models=MANY // 3).nodes, "stale"))
    assert len(many) == MANY
    more = release(models=MANY // 3 + 1)
    assert list(parts(more, dict.fromkeys(more.nodes, "stale"))) == ["download", "lower", "compile"]


def test_what_would_read_itself_in_a_circle_is_not_put_together() -> None:
    reads: dict[str, list[str]] = {"a:0": [], "b:0": ["a:0"]}
    for number in range(1, MANY):
        reads |= {f"a:{number}": [f"b:{number - 1}"], f"b:{number}": [f"a:{number}"]}
    graph = drawn(reads)
    assert len(parts(graph, dict.fromkeys(graph.nodes, "stale"))) == 2 * MANY
