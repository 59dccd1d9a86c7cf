"""What the project says for programs, held against the schemas that docs/ has of it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

DOCS = Path(__file__).resolve().parents[1] / "docs"


def check(form: Any, name: str) -> None:
    """Hold a form against docs/NAME.schema.json; one schema may refer to another beside it."""
    schemas = {path.name: json.loads(path.read_bytes()) for path in DOCS.glob("*.schema.json")}
    registry: Registry[Any] = Registry().with_resources(
        (file, Resource.from_contents(schema)) for file, schema in schemas.items()
    )
    schema = schemas[f"{name}.schema.json"]
    jsonschema.Draft202012Validator(schema, registry=registry).validate(form)
