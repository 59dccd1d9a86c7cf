"""What is known of a library before its users run it: the one vocabulary for it.

A report is a dictionary in JSON, written by every way of verifying and read by everything that
shows it. It holds no time, no place and no last digits, so equal libraries have equal reports.

    state       "executed": it ran and gave the right results;
                "checked": it was looked at, by all means there are without the device;
                "unverified": what would run or check it is not installed
    how         where it ran, what was checked, or what is missing
    accuracy    of what was executed: "logits_within", a bound of the largest error of a logit,
                relative to the largest logit; "questions", how many of "total" came out "right"
                when each "every"-th was asked, and those answered otherwise;
                whatever else a way of executing measures
    checks      what was found right in the file, in words
    install     of what is unverified: the command that installs what is missing

Imports neither numpy nor tvm.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

State = Literal["executed", "checked", "unverified"]
STATES: tuple[State, ...] = ("executed", "checked", "unverified")

# Errors are reported as the next of these, so that last digits are not in a report.
LADDER = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Report = Mapping[str, Any]


def executed(how: str, accuracy: Mapping[str, Any], checks: Sequence[str] = ()) -> Report:
    """Return the report on a library that ran `how`, such as "on x86_64"."""
    return {"state": "executed", "how": how, "accuracy": dict(accuracy), "checks": list(checks)}


def checked(how: str, checks: Sequence[str]) -> Report:
    """Return the report on a library that was looked at; `how` sums up the checks."""
    return {"state": "checked", "how": how, "checks": list(checks)}


def unverified(missing: str, install: str, checks: Sequence[str] = ()) -> Report:
    """Return the report on a library that cannot be executed or checked as it should be.

    `missing` says what is not there, `install` the command that installs it; `checks` is what
    could be looked at all the same.
    """
    return {
        "state": "unverified",
        "how": missing,
        "checks": list(checks),
        "install": install,
    }


def bound(error: float) -> float:
    """Return the smallest step of the ladder that is not below `error`; infinity above the last."""
    return next((step for step in LADDER if error <= step), math.inf)


def same_answers(one: Report, other: Report) -> bool | None:
    """Whether two libraries gave the same texts; None unless both answered the same questions.

    Only those are compared that both were asked.
    """
    pair = [report.get("accuracy", {}).get("questions") for report in (one, other)]
    if not all(pair):
        return None
    every = math.lcm(*(asked["every"] for asked in pair))
    first, second = (
        [wrong for wrong in asked["wrong"] if wrong["number"] % every == 0] for asked in pair
    )
    return first == second


def verified_text(report: Report) -> str:
    """Return the state in a few words: "executed on x86_64", "checked: …", "unverified: …"."""
    between = " " if report["state"] == "executed" else ": "
    return f"{report['state']}{between}{report['how']}"


def accuracy_text(report: Report) -> str:
    """Return the accuracy in a few words, empty where nothing was executed."""
    accuracy = report.get("accuracy", {})
    parts = []
    if "logits_within" in accuracy:
        parts.append(f"logits within {accuracy['logits_within']:.0e}")
    if "questions" in accuracy:
        parts.append(f"{accuracy['questions']['right']}/{accuracy['questions']['total']} right")
    return ", ".join(parts)
