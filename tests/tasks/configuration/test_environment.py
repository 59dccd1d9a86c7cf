from __future__ import annotations

import pytest

from tasks.configuration.environment import VARIABLES, check_variables
from tasks.errors import BuildError


def test_known_variables_and_those_of_others_are_accepted() -> None:
    check_variables([*VARIABLES, "HOME", "OLMILL_UPDATE_GOLDEN"])


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(BuildError, match="'OLMILL_TRUSTED_KEY'") as caught:
        check_variables(["HOME", "OLMILL_TRUSTED_KEY"])
    assert caught.value.hint == "did you mean 'OLMILL_TRUSTED_KEYS'?"
