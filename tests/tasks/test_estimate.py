"""How long a run takes."""

from tasks.assess import Assessment, State
from tasks.estimate import Span, estimate
from tasks.node import Graph, Node, Selection, graph

EDGES = {"a": "", "b": "a", "c": "a", "d": "bc", "e": ""}
SECONDS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0}


def made() -> Graph:
    return graph(
        Node(name, "", "", tuple(Selection(p, ("*",)) for p in reads), "")
        for name, reads in EDGES.items()
    )


def decided(**states: State) -> dict[str, Assessment]:
    nodes = made().nodes
    return {
        name: Assessment(nodes[name], states.get(name, State.CURRENT))
        for name in ("a", "b", "c", "d", "e")
    }


def test_nothing() -> None:
    found = estimate(made(), decided(b=State.CACHED, c=State.REMOTE), SECONDS, 1)
    assert found.least == found.most == Span(0, 0, 0)
    assert found.unknown == ()


def test_at_least_what_is_stale_at_most_what_waits() -> None:
    states = decided(b=State.STALE, d=State.WAITING, e=State.STALE)
    found = estimate(made(), states, SECONDS, 1)
    assert found.least == Span(7, 7, 5)
    assert found.most == Span(11, 11, 6)


def test_several_at_a_time() -> None:
    """1 to 3 seconds b, 1 to 4 c, 4 to 8 d; e from 0 to 5 beside them."""
    states = dict.fromkeys("abcd", State.STALE)
    assert estimate(made(), decided(**states), SECONDS, 2).least == Span(10, 8, 8)
    states["e"] = State.STALE
    assert estimate(made(), decided(**states), SECONDS, 3).least == Span(15, 8, 8)
    assert estimate(made(), decided(**states), SECONDS, 2).least == Span(15, 10, 8)


def test_what_was_never_timed_is_said_to_be_so() -> None:
    states = decided(b=State.STALE, c=State.STALE, d=State.WAITING)
    found = estimate(made(), states, {"b": 2.0}, 1)
    assert found.most == Span(2, 2, 2)
    assert found.unknown == ("c", "d")
