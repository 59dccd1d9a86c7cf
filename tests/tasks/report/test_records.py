"""What actions said is believed only where it has the shape that it should have."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.report.records import conversion, verification
from tests.tasks.report.samples import CHECKED, EXECUTED, UNVERIFIED

GOOD = {
    "parameters": 10,
    "bytes": 20,
    "bits_per_parameter": 4.5,
    "weights": [{"name": "w", "max_error": 1.0, "mean_error": 0.5}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def told(value: Any) -> Any:
    return verification(json.dumps({"verified": value}).encode())


@pytest.mark.parametrize("report", [EXECUTED, CHECKED, UNVERIFIED], ids=lambda r: r["state"])
def test_reports_are_read_as_they_are(report: dict[str, Any]) -> None:
    assert told(report) == report


@pytest.mark.parametrize(
    "change",
    [
        {"state": "perfect"},
        {"how": 1},
        {"checks": "all"},
        {"checks": [1]},
        {"install": ["rm"]},
        {"accuracy": []},
        {"accuracy": {"logits_within": "small"}},
        {"accuracy": {"logits_within": float("inf")}},
        {"accuracy": {"logits_within": -1}},
        {"accuracy": {"logits_within": True}},
        {"accuracy": {"logits_within": 10**400}},
        {"accuracy": {"logits_of_functions_within": {"prefill": None}}},
        {"accuracy": {"measured": float("nan")}},
        {"accuracy": {"questions": {"right": 3, "total": 2, "every": 1, "wrong": []}}},
        {"accuracy": {"questions": {"right": True, "total": 2, "every": 1, "wrong": []}}},
        {"accuracy": {"questions": {"right": 1, "total": 2, "every": 0, "wrong": []}}},
        {"accuracy": {"questions": {"right": 1, "total": 10**400, "every": 1, "wrong": []}}},
        {"accuracy": {"questions": {"right": 1, "total": 2}}},
        {
            "accuracy": {
                "questions": {"every": 1, "right": 1, "total": 2, "wrong": [{"question": "?"}]}
            }
        },
    ],
    ids=str,
)
def test_what_is_no_report_is_nothing(change: dict[str, Any]) -> None:
    assert told(EXECUTED | change) is None


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 10**5])
def test_damaged_manifests_say_nothing(manifest: bytes) -> None:
    assert verification(manifest) is None


def test_texts_can_be_shown_on_a_terminal() -> None:
    found = told({**CHECKED, "how": "one\n\ttwo \x1b[31m\x9b \ud800 é"})
    assert found is not None
    assert found["how"] == "one two \ufffd[31m\ufffd \ufffd é"


def test_conversions() -> None:
    found = conversion("m", "q", json.dumps(GOOD).encode())
    assert found is not None
    assert (found.parameters, found.bytes, found.bits_per_parameter) == (10, 20, 4.5)
    assert [(w.name, w.max_error, w.mean_error) for w in found.weights] == [("w", 1.0, 0.5)]


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": -1},
        {"bytes": 1.5},
        {"bits_per_parameter": "many"},
        {"weights": None},
        {"weights": [{"name": 1, "max_error": 1, "mean_error": 1}]},
        {"weights": [{"name": "w", "max_error": float("inf"), "mean_error": 1}]},
        {"weights": [{"name": "w"}]},
    ],
    ids=str,
)
def test_what_is_no_conversion_is_nothing(change: dict[str, Any]) -> None:
    assert conversion("m", "q", json.dumps(GOOD | change).encode()) is None


@given(JSON, st.sampled_from(["state", "how", "checks", "accuracy", "install"]))
def test_nothing_makes_it_fail(value: Any, key: str) -> None:
    found = told(EXECUTED | {key: value})
    assert found is None or found["state"] == "executed" or key == "state"
    conversion("m", "q", json.dumps(GOOD | {"weights": value}).encode())
