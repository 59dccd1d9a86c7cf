"""`doit status`: what is up to date, for people and for scripts."""

import json
from collections.abc import Callable

from tests.schemas import check
from tests.tasks.toy import Project, Step

Said = Callable[..., list[str]]


def test_without_a_matrix_nodes_are_listed(project: Project, said: Said) -> None:
    project.steps["b"] = Step("X", ["a"])
    assert said("status") == ["current  step:a", "stale    step:b", "waiting  step:c"]
    assert said("status", "step:a") == ["current  step:a"]


def test_check_is_for_scripts(project: Project, said: Said) -> None:
    said("status", "--check")
    project.steps["b"] = Step("X", ["a"])
    said("status", "--check", code=1)
    said("status", "--check", "step:a")
    project.doit()
    project.doit("forget", "step:c")
    said("status", "--check", code=1)


def test_as_json(project: Project, said: Said) -> None:
    project.steps["b"] = Step("X", ["a"])
    form = json.loads("\n".join(said("status", "--json")))
    check(form, "status")
    assert form["nodes"] == {"step:a": "current", "step:b": "stale", "step:c": "waiting"}
    assert form["release"] == []
