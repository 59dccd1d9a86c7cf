"""`doit graph`: a tree, a picture, DOT."""

from collections.abc import Callable

import pytest

from tests.tasks.drawing.graphs import parsed
from tests.tasks.toy import Project, Step

Said = Callable[..., list[str]]


def test_a_tree(project: Project, said: Said) -> None:
    project.steps["b"] = Step("X", ["a"])
    assert said("graph") == [
        "step:c  waiting",
        "└─ step:b  stale",
        "   └─ step:a  current",
    ]


def test_repeated_parts_are_referred_to(project: Project, said: Said) -> None:
    project.steps["d"] = Step("D", ["b"])
    project.doit()
    assert said("graph") == [
        "step:c  current",
        "└─ step:b  current",
        "   └─ step:a  current",
        "step:d  current",
        "└─ step:b  current, see above",
    ]


def test_of_some_tasks(said: Said) -> None:
    assert said("graph", "step:b") == ["step:b  current", "└─ step:a  current"]


def test_what_is_named_alike_is_one_unless_all_is_asked_for(project: Project, said: Said) -> None:
    project.steps |= {f"group:{number}": Step(str(number)) for number in range(60)}
    assert "step:group × 60  60 stale" in said("graph")
    assert len(said("graph", "--all")) == 63


def test_a_picture(project: Project, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    path = project.root / "graph.svg"
    assert said("graph", "--svg", str(path)) == []
    assert parsed(path.read_text()).get("class") == "build-graph"
    assert project.doit("graph", "--svg", str(project.root / "no/graph.svg")) == 3
    told = capsys.readouterr().err
    assert "no/graph.svg: No such file or directory" in told
    assert "Traceback" not in told
    assert not (project.root / "no").exists()


def test_dot(said: Said) -> None:
    lines = said("graph", "--dot")
    assert lines[0] == "digraph build {"
    assert '  "step:a" -> "step:b";' in lines
    assert lines[-1] == "}"
