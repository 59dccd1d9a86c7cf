"""The picture: well-formed, complete, the same each time."""

from tasks.assess import State
from tasks.drawing.svg import COLOURS, svg
from tests.tasks.drawing.graphs import drawn, parsed, release

NAMESPACE = {"s": "http://www.w3.org/2000/svg"}
GRAPH = drawn({"k:a": [], "k:b:c": ["k:a"], "<&>": ["k:b:c"]})
STATES = {"k:a": "current", "k:b:c": "stale", "<&>": "waiting"}


def test_every_state_has_colours() -> None:
    assert set(COLOURS) == {state.value for state in State}


def test_boxes_say_what_they_are() -> None:
    picture = parsed(svg(GRAPH, STATES))
    boxes = {
        tuple(text.text for text in box.findall("s:text", NAMESPACE)): box.get("class")
        for box in picture.findall("s:g", NAMESPACE)
    }
    assert boxes == {
        ("k", "a", "current"): "current",
        ("k", "b c", "stale"): "stale",
        ("<&>", "waiting"): "waiting",
    }
    assert len(picture.findall("s:path", NAMESPACE)) == 2


def test_all_is_inside() -> None:
    picture = parsed(svg(GRAPH, STATES))
    width, height = (float(picture.get(name, "")) for name in ("width", "height"))
    for rect in picture.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, w, h = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
        assert 0 < x < x + w < width
        assert 0 < y < y + h < height


def test_many_nodes_are_one_box_that_names_them() -> None:
    graph = release()
    picture = parsed(svg(graph, dict.fromkeys(graph.nodes, "current")))
    assert len(picture.findall("s:g", NAMESPACE)) == 6
    titles = [title.text or "" for title in picture.findall("s:g/s:title", NAMESPACE)]
    assert "compile:m1:q:t29" in titles[-1].splitlines()
    whole = parsed(svg(graph, dict.fromkeys(graph.nodes, "current"), every=True))
    assert len(whole.findall("s:g", NAMESPACE)) == 64


def test_it_is_the_same_each_time() -> None:
    assert svg(GRAPH, STATES) == svg(GRAPH, STATES)


def test_nothing_is_a_picture_too() -> None:
    assert parsed(svg(GRAPH, {})).findall("s:g", NAMESPACE) == []
