"""Reading what actions said of their work, from files that may come from elsewhere.

Verification reports and conversion reports are blobs of the store: their bytes are those that the
results name, but who wrote the results is another matter. What is not well-formed counts as
nothing known, so whatever shows a record can rely on its shape, on finite numbers, and on texts of
one line without control characters.
"""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olmo.verification.report import STATES, Report

_SHOWN = {"Cc": "\ufffd", "Cs": "\ufffd"}  # control characters, halves of pairs


@dataclass(frozen=True)
class WeightError:
    """How far the stored values of a weight are from the checkpoint's, in its own units."""

    name: str
    max_error: float
    mean_error: float


@dataclass(frozen=True)
class Conversion:
    """What `convert` said of a model in one quantization.

    `parameters` of the checkpoint; `bytes` of the shards; `bits_per_parameter` logical, as in MLC's
    manifests; `weights` those of which the error was measured.
    """

    model: str
    quantization: str
    parameters: int
    bytes: int
    bits_per_parameter: float
    weights: tuple[WeightError, ...]


def verification(manifest: bytes) -> Report | None:
    """Return what a manifest in dist/libs/ says of its library, None if it says nothing.

    It has the shape that `olmo.verification.report` describes.
    """
    value = _parsed(manifest)
    report = value.get("verified") if isinstance(value, dict) else None
    return report if isinstance(report, dict) and _is_report(report) else None


def conversion(model: str, quantization: str, report: bytes) -> Conversion | None:
    """Return what the `report.json` of a conversion says, None if it says nothing."""
    value = _parsed(report)
    try:
        parameters, size = value["parameters"], value["bytes"]
        bits = value["bits_per_parameter"]
        errors = [(w["name"], w["max_error"], w["mean_error"]) for w in value["weights"]]
    except (KeyError, TypeError):
        return None
    numbers = [bits, *(number for _, *both in errors for number in both)]
    names = (name for name, *_ in errors)
    if not (_is_count(parameters) and _is_count(size) and all(map(_is_number, numbers))):
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    weights = tuple(WeightError(*error) for error in errors)
    return Conversion(model, quantization, parameters, size, bits, weights)


def _parsed(data: bytes) -> Any:
    """Return JSON all of whose texts can be shown, None of anything else."""
    try:
        return _showable(json.loads(data))
    except (ValueError, RecursionError):
        return None


def _showable(value: Any) -> Any:
    """Return a value with spaces for line breaks and tabs, and U+FFFD for what is no text.

    Raises ValueError for numbers that JSON has not.
    """
    if isinstance(value, str):
        return "".join(_SHOWN.get(unicodedata.category(c), c) for c in " ".join(value.split()))
    if isinstance(value, dict):
        return {_showable(key): _showable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_showable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no number of JSON")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_number(value: Any) -> bool:
    """Whether a value is a number that is not negative, and can be a float: JSON's may be longer."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max


def _is_report(report: Mapping[str, Any]) -> bool:
    """Whether a verification report is one."""
    checks, accuracy = report.get("checks"), report.get("accuracy", {})
    return (
        report.get("state") in STATES
        and isinstance(report.get("how"), str)
        and isinstance(report.get("install", ""), str)
        and isinstance(checks, list)
        and all(isinstance(check, str) for check in checks)
        and isinstance(accuracy, dict)
        and _is_accuracy(accuracy)
    )


def _is_accuracy(accuracy: Mapping[str, Any]) -> bool:
    functions = accuracy.get("logits_of_functions_within", {})
    numbers = [accuracy.get("logits_within", 0)]
    if not isinstance(functions, dict):
        return False
    if "questions" in accuracy and not _are_questions(accuracy["questions"]):
        return False
    return all(map(_is_number, [*numbers, *functions.values()]))


def _are_questions(questions: Any) -> bool:
    try:
        right, total, every = (questions[key] for key in ("right", "total", "every"))
        wrong = questions["wrong"]
        numbers = [one["number"] for one in wrong]
        texts = [one[key] for one in wrong for key in ("question", "answer", "answered")]
    except (KeyError, TypeError):
        return False
    return (
        all(map(_is_count, (right, total, every, *numbers)))
        and right <= total
        and every > 0
        and all(isinstance(text, str) for text in texts)
    )
