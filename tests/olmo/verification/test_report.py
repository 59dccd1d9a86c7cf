"""The vocabulary of verification, in words."""

import json
import math

import pytest

from olmo.verification.report import (
    STATES,
    Report,
    accuracy_text,
    bound,
    checked,
    executed,
    same_answers,
    unverified,
    verified_text,
)

QUESTIONS = {"right": 146, "total": 150, "every": 1, "wrong": []}
REPORTS = [
    executed("on x86_64", {"logits_within": 1e-6, "questions": QUESTIONS}),
    checked("Mach-O aarch64", ["61 kernels of Metal"]),
    unverified("the emulator is not installed", "install it", ["ELF aarch64"]),
]


@pytest.mark.parametrize(
    ("report", "verified", "accuracy"),
    [
        (REPORTS[0], "executed on x86_64", "logits within 1e-06, 146/150 right"),
        (REPORTS[1], "checked: Mach-O aarch64", ""),
        (REPORTS[2], "unverified: the emulator is not installed", ""),
        (executed("in a browser", {"questions": QUESTIONS}), "executed in a browser", "146/150 right"),
        (executed("on a GPU", {}), "executed on a GPU", ""),
    ],
)  # fmt: skip
def test_in_words(report: Report, verified: str, accuracy: str) -> None:
    assert verified_text(report) == verified
    assert accuracy_text(report) == accuracy


def test_every_state_has_a_report() -> None:
    assert tuple(report["state"] for report in REPORTS) == STATES
    assert [json.loads(json.dumps(report)) for report in REPORTS] == REPORTS


def test_what_is_unverified_says_what_to_install_and_what_was_seen_all_the_same() -> None:
    assert REPORTS[2]["install"] == "install it"
    assert REPORTS[2]["checks"] == ["ELF aarch64"]


@pytest.mark.parametrize(
    ("error", "step"),
    [(0.0, 1e-6), (1e-6, 1e-6), (1.1e-6, 1e-5), (0.5, 1.0), (2.0, math.inf), (math.nan, math.inf)],
)
def test_errors_are_rounded_up_to_a_step(error: float, step: float) -> None:
    assert bound(error) == step


def answered(every: int, **wrong: str) -> Report:
    listed = [{"number": int(key[1:]), "answered": text} for key, text in wrong.items()]
    return executed("here", {"questions": {"every": every, "wrong": listed}})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (answered(1), answered(1), True),
        (answered(1, n3="x"), answered(1, n3="x"), True),
        (answered(1, n3="x"), answered(1, n3="y"), False),
        (answered(1, n3="x"), answered(1), False),
        (answered(1, n3="x", n8="z"), answered(8, n8="z"), True),
        (answered(1, n3="x", n8="z"), answered(8), False),
        (answered(1), answered(8, n16="z"), False),
        (answered(4, n4="x", n12="y"), answered(6, n12="y", n6="z"), True),
        (answered(1), executed("here", {}), None),
        (REPORTS[1], answered(1), None),
    ],
)
def test_same_answers_where_both_were_asked(one: Report, other: Report, same: bool | None) -> None:
    assert same_answers(one, other) is same
    assert same_answers(other, one) is same
