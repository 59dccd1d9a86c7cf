"""What is in a key."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.digest import Digest, of_bytes
from cache.local.store import LocalStore
from cache.tiered import TieredStore
from tasks.differences import differences
from tasks.errors import BuildError
from tasks.graph import session
from tasks.keys import Keyed, fields
from tasks.node import Node, Selection, canonical_json, graph
from tests.tasks.toy import Project

ONE, TWO = of_bytes(b"1"), of_bytes(b"2")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "p", tmp_path / "cache")


def keyed(
    project: Project,
    params: Mapping[str, object],
    outputs: Mapping[str, Mapping[str, Digest]],
    name: str = "step:n",
    destination: str = "build/n",
) -> Keyed:
    inputs = tuple(Selection(producer, ("*",), "in") for producer in outputs)
    node = Node(name, "toyactions.concat", canonical_json(params), inputs, destination)
    store = TieredStore(LocalStore(project.cache))
    current = session(project.root, graph([]), store, code_root=project.root)
    return current.keys.keyed(node, lambda selection: outputs[selection.producer])


def test_parameters_and_inputs_count(project: Project) -> None:
    base = keyed(project, {"text": "a"}, {"p": {"x": ONE}}).key
    assert keyed(project, {"text": "a"}, {"p": {"x": ONE}}).key == base
    assert keyed(project, {"text": "b"}, {"p": {"x": ONE}}).key != base
    assert keyed(project, {"text": "a"}, {"p": {"x": TWO}}).key != base
    assert keyed(project, {"text": "a"}, {"p": {"y": ONE}}).key != base


def test_names_and_places_of_nodes_do_not_count(project: Project) -> None:
    base = keyed(project, {}, {"p": {"x": ONE}}).key
    assert keyed(project, {}, {"q": {"x": ONE}}).key == base
    assert keyed(project, {}, {"p": {"x": ONE}}, name="step:other").key == base
    assert keyed(project, {}, {"p": {"x": ONE}}, destination="elsewhere").key == base


def test_the_key_is_that_of_the_action_that_a_worker_gets(project: Project) -> None:
    one = keyed(project, {}, {"p": {"x": ONE, "d/y": TWO}})
    assert one.action.key == one.key
    assert one.key in one.action.blobs
    assert {place: (i.producer, i.path, i.digest) for place, i in one.inputs.items()} == {
        "in/x": ("p", "x", ONE),
        "in/d/y": ("p", "d/y", TWO),
    }


def test_code_and_tools_count(project: Project) -> None:
    base = keyed(project, {}, {}).key
    code = project.root / "toyactions/concat.py"
    code.write_text(code.read_text() + "\nTOOLS = ('numpy',)\n")
    with_tool = keyed(project, {}, {})
    assert with_tool.key != base
    assert "tool numpy" in fields(with_tool)


def test_two_inputs_of_one_place_are_refused(project: Project) -> None:
    with pytest.raises(BuildError, match="q and p both give it in/x"):
        keyed(project, {}, {"p": {"x": ONE}, "q": {"x": TWO}})


def test_a_name_that_is_a_file_and_a_directory_is_refused(project: Project) -> None:
    top = replace(keyed(project, {}, {}).node, inputs=(Selection("q", ("*",)),))
    node = replace(top, inputs=(*top.inputs, Selection("p", ("*",), "in")))
    store = TieredStore(LocalStore(project.cache))
    keys = session(project.root, graph([]), store, code_root=project.root).keys
    with pytest.raises(BuildError, match="step:n: one name is a file and a directory"):
        keys.keyed(node, lambda selection: {"in" if selection.into == "" else "x": ONE})


def test_nodes_that_read_of_the_same_outputs_have_keys_of_their_own(project: Project) -> None:
    store = TieredStore(LocalStore(project.cache))
    keys = session(project.root, graph([]), store, code_root=project.root).keys
    outputs = {"x": ONE, "y": TWO}
    node = keyed(project, {}, {}).node
    selections = [Selection("p", patterns, "in") for patterns in (("*",), ("x",), ("y",))]
    selections.append(Selection("p", ("x",)))
    nodes = [replace(node, inputs=(selection,)) for selection in selections]
    together = [keys.keyed(one, lambda _: outputs).key for one in nodes]
    assert len(set(together)) == len(nodes)
    assert together == [keys.keyed(one, lambda _: dict(outputs)).key for one in nodes]


def test_fields_name_every_part(project: Project) -> None:
    assert fields(keyed(project, {"text": "a", "keep": 2}, {"p": {"x": ONE}})).keys() == {
        "action",
        "key schema",
        "parameter keep",
        "parameter text",
        "input in/x",
        "code toyactions/__init__.py",
        "code toyactions/concat.py",
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"action": "toyactions.batched"}, "action"),
        ({"params": '{"text":"b"}'}, "parameter text"),
        ({"params": '{"text":"a","keep":1}'}, "parameter keep"),
        ({"inputs": (Selection("p", ("*",), "other"),)}, "input other/x"),
        ({"programs": (("nvcc", "13"),)}, "tool nvcc"),
        ({"platform": (("os", "linux"),)}, "platform os"),
    ],
)
def test_what_changes_the_key_has_a_field(
    project: Project, change: Mapping[str, Any], field: str
) -> None:
    """So that `doit why` can name it."""
    node = Node("n", "toyactions.concat", '{"text":"a"}', (Selection("p", ("*",), "in"),), "n")
    changed = replace(node, **change)
    keys = project.session().keys
    before, after = (keys.keyed(one, lambda _: {"x": ONE}) for one in (node, changed))
    assert before.key != after.key
    assert field in {one.field for one in differences(fields(before), fields(after))}
