from __future__ import annotations

import re
from pathlib import Path

import pytest

import tasks
from tasks.configuration.environment import VARIABLES, check_variables
from tasks.errors import BuildError


def test_known_variables_and_those_of_others_are_accepted() -> None:
    check_variables([*VARIABLES, "HOME", "OLMILL_UPDATE_GOLDEN"])


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(BuildError, match="'OLMILL_TRUSTED_KEY'") as caught:
        check_variables(["HOME", "OLMILL_TRUSTED_KEY"])
    assert caught.value.hint == "did you mean 'OLMILL_TRUSTED_KEYS'?"


def test_all_that_is_read_is_known() -> None:
    sources = "\n".join(path.read_text() for path in Path(tasks.__path__[0]).rglob("*.py"))
    assert {*re.findall(r'"(OLMILL_[A-Z_]+)"', sources)} >= {*VARIABLES}
    tests = {"OLMILL_FUZZ", "OLMILL_SCREENSHOTS", "OLMILL_UPDATE_GOLDEN"}
    assert {*re.findall(r"OLMILL_[A-Z_]*[A-Z]", sources)} - tests == {*VARIABLES}
