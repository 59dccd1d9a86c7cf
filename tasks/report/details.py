"""All that a page tells of one library, in a box that opens over the matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from tasks.report import words
from tasks.report.elements import address, append, element
from tasks.report.releases import Cell

TOLD = 0.1  # seconds: what takes less is not told


def details(cell: Cell, place: str, dist: str, seconds: Mapping[str, float | None]) -> ET.Element:
    """Return the box; `place` is its id, `dist` where dist/ is, seen from the page.

    `seconds` are those of the actions of nodes.
    """
    title = f"{place}-title"
    close = {"type": "button", "popovertarget": place, "popovertargetaction": "hide"}
    listed = element("dl")
    _add(listed, "State", cell.state + (f": {cell.reason}" if cell.reason else ""))
    _add(listed, "Library", words.size(cell.library))
    _add(listed, "Weights", words.size(cell.weights))
    by_kind = ", ".join(f"{kind} {words.time(ran)}" for kind, ran in _kinds(cell, seconds))
    _add(listed, "Build time", words.time(cell.seconds), _in_brackets(by_kind))
    _verification(listed, cell)
    key = cell.key or words.UNKNOWN
    _add(listed, "Key", element("code", None, key))
    links = [
        element("a", {"href": address(f"{dist}/{path}")}, role) for role, path in cell.files.items()
    ]
    _add(listed, "Files", *_separated(links))
    return element(
        "div",
        {"popover": "", "id": place, "role": "dialog", "aria-labelledby": title},
        element(
            "div",
            {"class": "titled"},
            element("h3", {"id": title}, f"{cell.model} {cell.quantization}"),
            element("button", close, "Close"),
        ),
        element("p", None, f"{cell.target}, window {cell.variant}"),
        listed,
    )


def _verification(listed: ET.Element, cell: Cell) -> None:
    report = cell.verified
    if report is None:
        _add(listed, "Verified", words.UNKNOWN)
        return
    between = " " if report["state"] == "executed" else ": "
    _add(listed, "Verified", f"{report['state']}{between}{report['how']}")
    if "install" in report:
        _add(listed, "To verify", element("code", None, report["install"]))
    accuracy = words.accuracy(cell)
    functions = accuracy.get("logits_of_functions_within", {})
    if "logits_within" in accuracy:
        by_function = ", ".join(f"{name} {words.error(value)}" for name, value in functions.items())
        _add(
            listed,
            "Logits within",
            words.error(accuracy["logits_within"]),
            _in_brackets(by_function),
        )
    if "questions" in accuracy:
        wrong = accuracy["questions"]["wrong"]
        told = element("ul", None, *(_answer(**_texts(one)) for one in wrong)) if wrong else None
        alike = words.answers(cell)
        right = ", ".join(filter(None, (words.questions(cell), alike)))
        _add(listed, "Answered right", right, told)
    if report["checks"]:
        checks = [element("li", None, check) for check in report["checks"]]
        _add(listed, "Checked", element("ul", None, *checks))


def _kinds(cell: Cell, seconds: Mapping[str, float | None]) -> Iterable[tuple[str, float]]:
    """Return how long the actions ran that take the time, by kind of node."""
    found: dict[str, float] = {}
    for name in cell.nodes:
        kind, ran = name.partition(":")[0], seconds.get(name)
        if ran is not None:
            found[kind] = found.get(kind, 0.0) + ran
    return [(kind, ran) for kind, ran in found.items() if ran >= TOLD]


def _texts(one: dict[str, str]) -> dict[str, str]:
    return {key: one[key] for key in ("question", "answer", "answered")}


def _answer(question: str, answer: str, answered: str) -> ET.Element:
    told = f"{question} {answered or 'nothing'}, not {answer}"
    return element("li", None, told)


def _in_brackets(text: str) -> str | None:
    return f" ({text})" if text else None


def _add(listed: ET.Element, term: str, *told: ET.Element | str | None) -> None:
    """Add a term and what is said of it, if anything is."""
    if any(one is not None for one in told):
        append(listed, [element("dt", None, term), element("dd", None, *told)])


def _separated(links: list[ET.Element]) -> list[ET.Element | str]:
    found: list[ET.Element | str] = []
    for link in links:
        found += [", ", link] if found else [link]
    return found
