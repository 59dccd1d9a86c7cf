"""`doit check`: built again elsewhere, byte for byte the same."""

from collections.abc import Callable

from tests.tasks.toy import Project

Said = Callable[..., list[str]]


def test_it_rebuilds_and_compares(said: Said) -> None:
    assert said("check", "step") == ["identical step:a", "identical step:b", "identical step:c"]


def test_it_finds_what_is_not_reproducible(project: Project, said: Said) -> None:
    code = project.root / "toyactions/concat.py"
    clock = "    text = str(__import__('time').time_ns()) + params"
    code.write_text(code.read_text().replace("    text = params", clock, 1))
    project.doit()
    assert said("check", "step:a", code=1) == ["DIFFERENT step:a", "  out.txt"]


def test_it_leaves_everything_as_it_was(project: Project) -> None:
    project.doit("check", "step")
    project.doit()
    assert project.executed() == set()
