"""doit's record, written through."""

from pathlib import Path

import pytest
from doit.dependency import Dependency, JSONCodec

from tasks.state import ACTION, DURATION, FORGOTTEN, StateDB


class Task:
    def __init__(self, name: str, **values: object) -> None:
        self.name = name
        self.values = values
        self.result = None
        self.file_dep: set[str] = set()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "build" / "state.sqlite")


def open_state(path: str) -> Dependency:
    return Dependency(StateDB, path)


def test_a_success_is_kept_without_closing(path: str) -> None:
    first = open_state(path)
    first.save_success(Task("a", key="1"))
    second = open_state(path)  # as after a kill: the first was never closed
    assert second.get_values("a") == {"key": "1"}
    first.close()
    second.close()


def test_removing_is_kept_too(path: str) -> None:
    first = open_state(path)
    first.save_success(Task("a", key="1"))
    first.remove_success(Task("a"))
    second = open_state(path)
    assert second.get_values("a") == {}
    first.close()
    second.close()


def test_fields_of_the_action_are_apart(path: str) -> None:
    first = open_state(path)
    first.backend.set("a", ACTION, {"parameter x": "1"})
    first.save_success(Task("a", key="1"))
    first.close()
    second = open_state(path)
    assert second.backend.get("a", ACTION) == {"parameter x": "1"}
    assert ACTION not in second.get_values("a")
    second.close()


def test_durations_outlive_failures_and_forgetting(path: str) -> None:
    state = open_state(path)
    for name in ("a", "b"):
        state.backend.set(name, DURATION, 1.5)
        state.save_success(Task(name, key="1"))
    state.remove_success(Task("a"))
    state.backend.forget("b")
    assert state.backend.all_of(DURATION) == {"a": 1.5, "b": 1.5}
    state.close()


def test_forgetting_marks_until_the_next_success(path: str) -> None:
    state = open_state(path)
    state.save_success(Task("a", key="1"))
    state.backend.forget("a")
    assert state.get_values("a") == {}
    assert state.backend.get("a", FORGOTTEN)
    state.save_success(Task("a", key="2"))
    assert not state.backend.get("a", FORGOTTEN)
    state.close()


def test_a_damaged_database_is_made_anew(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).write_bytes(b"not a database at all, but longer than a header would be" * 20)
    state = open_state(path)
    state.save_success(Task("a", key="1"))
    state.close()
    again = open_state(path)
    assert again.get_values("a") == {"key": "1"}
    again.close()


def test_the_interface_doit_expects(path: str) -> None:
    state = StateDB(path, JSONCodec())
    assert not state.in_("a")
    assert state.get("a", "x") is None
    state.set("a", "x", 1)
    assert state.get("a", "x") == 1
    assert state.in_("a")
    state.remove("a")
    assert not state.in_("a")
    state.dump()
