"""JSON of a report is what its schema says, and the schema says what there is."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tasks.report.json_form import json_text
from tasks.report.records import Conversion, WeightError
from tasks.report.releases import CELL_STATES, Cell, Release, Step
from tests.tasks.report.samples import sample

SCHEMA_FILE = Path(__file__).resolve().parents[3] / "docs/report.schema.json"


@pytest.fixture(scope="module")
def schema() -> Any:
    found = json.loads(SCHEMA_FILE.read_bytes())
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_a_report_is_valid(schema: Any) -> None:
    jsonschema.validate(json.loads(json_text(sample())), schema)
    jsonschema.validate(json.loads(json_text(Release(()))), schema)


def test_the_schema_has_every_field_and_no_other(schema: Any) -> None:
    described = {"cell": Cell, "conversion": Conversion, "node": Step}
    for name, made in described.items():
        assert list(schema["$defs"][name]["properties"]) == [field.name for field in fields(made)]
    errors = schema["$defs"]["conversion"]["properties"]["weights"]["items"]["properties"]
    assert list(errors) == [field.name for field in fields(WeightError)]
    assert schema["$defs"]["cell"]["properties"]["state"]["enum"] == list(CELL_STATES)


@pytest.mark.parametrize(
    ("place", "value"),
    [("state", "perfect"), ("key", "short"), ("window", 0), ("library", -1), ("more", 1)],
)
def test_the_schema_refuses_what_is_none(schema: Any, place: str, value: Any) -> None:
    found = json.loads(json_text(sample()))
    found["cells"][0][place] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schema)
