"""Keys, byte for byte as docs/keys.md and tests/golden/keys.json have them.

A change here means that every cache in the world forgets everything: never by accident. With
OLMILL_UPDATE_GOLDEN=1 the golden file is written anew and the tests are skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cache import digest as digests
from cache import merkle
from cache.action import Action, ActionResult, EncodedAction, decode_result, encode, encode_result
from cache.protocol import remote_execution_pb2 as reapi

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "keys.json"


def encoded(example: dict[str, Any]) -> EncodedAction:
    action = Action(
        arguments=tuple(example["arguments"]),
        input_root=merkle.tree(
            {path: digests.of_bytes(text.encode()) for path, text in example["inputs"].items()}
        ),
        output_paths=tuple(example["output_paths"]),
        platform=tuple(example["platform"].items()),
        salt=example["salt"].encode(),
        environment=tuple(example["environment"].items()),
    )
    return encode(action)


def action_expected(example: dict[str, Any]) -> dict[str, Any]:
    found = encoded(example)
    return {"key": str(found.key), "messages": sorted(blob.hex() for blob in found.blobs.values())}


def result_expected(example: dict[str, Any]) -> dict[str, Any]:
    outputs = {path: digests.of_bytes(text.encode()) for path, text in example["outputs"].items()}
    return {"message": encode_result(ActionResult(outputs)).hex()}


def load() -> dict[str, list[dict[str, Any]]]:
    golden: dict[str, list[dict[str, Any]]] = json.loads(GOLDEN.read_text())
    return golden


@pytest.fixture(scope="module", autouse=True)
def _update() -> None:
    if os.environ.get("OLMILL_UPDATE_GOLDEN") == "1":
        golden = load()
        for example in golden["actions"]:
            example["expected"] = action_expected(example)
        for example in golden["results"]:
            example["expected"] = result_expected(example)
        GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
        pytest.skip("the golden keys are new: look at the difference")


ACTIONS = [pytest.param(example, id=example["name"]) for example in load()["actions"]]
RESULTS = [pytest.param(example, id=example["name"]) for example in load()["results"]]


@pytest.mark.parametrize("example", ACTIONS)
def test_keys_are_golden(example: dict[str, Any]) -> None:
    assert action_expected(example) == example["expected"]


@pytest.mark.parametrize("example", ACTIONS)
def test_golden_messages_say_what_they_are_for(example: dict[str, Any]) -> None:
    """Read with the code that protobuf generated, not with ours."""
    blobs = {
        digests.of_bytes(data): data for data in map(bytes.fromhex, example["expected"]["messages"])
    }
    action = reapi.Action.FromString(blobs[digests.parse(example["expected"]["key"])])
    command = reapi.Command.FromString(
        blobs[digests.Digest(action.command_digest.hash, action.command_digest.size_bytes)]
    )
    root = digests.Digest(action.input_root_digest.hash, action.input_root_digest.size_bytes)
    variables = [(pair.name, pair.value) for pair in command.environment_variables]
    properties = [(pair.name, pair.value) for pair in action.platform.properties]
    assert list(command.arguments) == example["arguments"]
    assert list(command.output_paths) == sorted(example["output_paths"])
    assert variables == sorted(example["environment"].items())
    assert properties == sorted(example["platform"].items())
    assert command.platform == action.platform
    assert action.salt == example["salt"].encode()
    assert merkle.files(merkle.Tree(root, blobs)) == {
        path: digests.of_bytes(text.encode()) for path, text in example["inputs"].items()
    }


@pytest.mark.parametrize("example", RESULTS)
def test_results_are_golden(example: dict[str, Any]) -> None:
    assert result_expected(example) == example["expected"]
    assert decode_result(bytes.fromhex(example["expected"]["message"])).outputs == {
        path: digests.of_bytes(text.encode()) for path, text in sorted(example["outputs"].items())
    }


def test_the_grammar_shows_the_golden_keys() -> None:
    text = (ROOT / "docs" / "keys.md").read_text()
    for example in load()["actions"]:
        assert f"| {example['name']} | `{example['expected']['key']}` |" in text


def field_numbers(message: Any) -> dict[str, int]:
    return {field.name: field.number for field in message.DESCRIPTOR.fields}


def test_the_grammar_names_every_field() -> None:
    """Each message of an action has a table in docs/keys.md with each of its field numbers."""
    text = (ROOT / "docs" / "keys.md").read_text()
    for message in (reapi.Action, reapi.Command, reapi.Directory, reapi.FileNode, reapi.Digest):
        section = text.partition(f"\n{message.DESCRIPTOR.name} =")[2].partition("\n\n")[0]
        for name, number in field_numbers(message).items():
            assert f" {number} {name} " in section, (message.DESCRIPTOR.name, name)
