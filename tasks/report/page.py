"""A report as one HTML page that needs nothing else: no network, no framework, no script.

Its script adds sorting and filtering, and everything can be read without. A policy in the page
allows just its own style and script, by their digests. What the page shows is text in elements,
never text that is parsed (`tasks.report.elements`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from tasks.report import words
from tasks.report.details import details
from tasks.report.elements import address, append, element, html_text
from tasks.report.palette import style
from tasks.report.picture import picture
from tasks.report.plots import Plot, plots
from tasks.report.releases import CELL_STATES, Cell, Release

_HERE = Path(__file__).parent
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#2f6f5e" '
    'd="M1 1h6v6H1zM9 1h6v6H9zM1 9h6v6H1z"/><path fill="#a9bcb3" d="M9 9h6v6H9z"/></svg>'
)
FILTERS = ("model", "quantization", "window", "target", "state", "verified")


def page_text(release: Release, dist: str) -> str:
    """Return a report as HTML; `dist` is where dist/ is, seen from the file it is put into."""
    styles = style() + (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_digest(styles)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    models = list(dict.fromkeys(cell.model for cell in release.cells))
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("title", None, ": ".join(["Release matrix", *filter(None, [", ".join(models)])])),
        element("link", {"rel": "icon", "href": f"data:image/svg+xml,{address(ICON)}"}),
        element("style", None, styles),
    )
    body = element(
        "body",
        None,
        element("a", {"class": "skip", "href": "#matrix"}, "Skip to the matrix"),
        _header(release),
        element(
            "main",
            None,
            *([_matrix(release, dist)] if release.cells else [_nothing()]),
            *(_plotted(model, plots(release, model), len(models) > 1) for model in models),
            _graph(release) if release.steps else None,
            _meanings(),
        ),
        element("script", None, script),
    )
    root = element("html", {"lang": "en"}, head, body)
    return f"<!doctype html>\n{html_text(root)}\n"


def _digest(text: str) -> str:
    """Return the source of an element's text as policies name it (CSP 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _header(release: Release) -> ET.Element:
    counts = element("ul", {"class": "counts"})
    total = len(release.cells)
    append(counts, [_count(total, "library" if total == 1 else "libraries", None)])
    append(counts, [_count(count, state, state) for state, count in words.states(release)])
    append(counts, [_count(count, state, None) for state, count in words.verifications(release)])
    return element(
        "header",
        None,
        element("div", None, element("h1", None, "Release matrix"), _schemes()),
        element("p", None, words.product(release)) if release.cells else None,
        counts,
    )


def _count(count: int, what: str, state: str | None) -> ET.Element:
    name = f"count state {_name(state)}" if state else "count"
    return element("li", {"class": name}, element("b", None, str(count)), f" {what}")


def _schemes() -> ET.Element:
    """Return the switch between light and dark: radio buttons, which style alone can read."""
    made = element(
        "fieldset", {"class": "schemes"}, element("legend", {"class": "unseen"}, "Colours")
    )
    for name, told in (("auto", "Auto"), ("light", "Light"), ("dark", "Dark")):
        checked = "" if name == "auto" else None
        button = {"type": "radio", "name": "scheme", "id": f"scheme-{name}", "checked": checked}
        label = element("label", {"for": f"scheme-{name}"}, told)
        append(made, [element("input", button), label])
    return made


def _nothing() -> ET.Element:
    return element("p", {"id": "matrix"}, "Nothing is selected.")


def _matrix(release: Release, dist: str) -> ET.Element:
    heads = [
        _head("Quantization", "quantization", "first"),
        _head("Window", "window", "number"),
        _head("Weights", "weights", "number"),
        *(_head(target, target, "target", target=target) for target in release.targets),
    ]
    bodies = [_body(release, model, dist, len(heads)) for model in _models(release)]
    table = element(
        "table",
        {"role": "table", "aria-labelledby": "matrix-title"},
        element("thead", {"role": "rowgroup"}, element("tr", {"role": "row"}, *heads)),
        *bodies,
    )
    scrolled = {"class": "scrolled", "role": "region", "tabindex": "0"}
    return element(
        "section",
        {"id": "matrix", "aria-labelledby": "matrix-title", "tabindex": -1},
        element("h2", {"id": "matrix-title", "class": "unseen"}, "Matrix"),
        _filters(release),
        element("div", {**scrolled, "aria-labelledby": "matrix-title"}, table),
    )


def _models(release: Release) -> list[str]:
    return list(dict.fromkeys(cell.model for cell in release.cells))


def _head(told: str, key: str, name: str, *, target: str | None = None) -> ET.Element:
    attributes = {"role": "columnheader", "scope": "col", "class": name, "data-sort": key}
    shown: Iterable[ET.Element | str] = [told] if target is None else _breakable(told)
    return element("th", {**attributes, "data-target": target}, element("span", None, *shown))


def _breakable(name: str) -> Iterator[ET.Element | str]:
    """Yield the parts of a name, and where a line may end in it."""
    first, *rest = name.split("-")
    yield first
    for part in rest:
        yield "-"
        yield element("wbr")
        yield part


def _body(release: Release, model: str, dist: str, width: int) -> ET.Element:
    parameters = next((c.parameters for c in release.conversions if c.model == model), None)
    told = None if parameters is None else f" {parameters:,} parameters"
    title = element("th", {"role": "rowheader", "scope": "rowgroup", "colspan": width}, model)
    append(title, [element("small", None, told) if told else None])
    made = element("tbody", {"role": "rowgroup"})
    made.append(element("tr", {"role": "row", "class": "model"}, title))
    seconds = {step.name: step.seconds for step in release.steps}
    numbers = {cell: number for number, cell in enumerate(map(id, release.cells))}
    for (name, quantization, variant), cells in release.rows.items():
        if name != model:
            continue
        weights = next((cell.weights for cell in cells.values() if cell.weights is not None), None)
        row = {"quantization": quantization, "window": variant, "weights": weights}
        line = element("tr", {"role": "row", **{f"data-{key}": row[key] for key in row}})
        append(
            line,
            [
                element("th", {"role": "rowheader", "scope": "row"}, quantization),
                element("td", {"role": "cell", "class": "number window"}, variant),
                element("td", {"role": "cell", "class": "number weights"}, words.size(weights)),
            ],
        )
        for target in release.targets:
            cell = cells.get(target)
            line.append(
                _absent(target) if cell is None else _cell(cell, numbers[id(cell)], dist, seconds)
            )
        made.append(line)
    return made


def _absent(target: str) -> ET.Element:
    """Return the place of a cell that the matrix does not have."""
    return element(
        "td",
        {"role": "cell", "class": "absent", "data-target": target},
        element("span", {"class": "unseen"}, "not in the matrix"),
    )


def _cell(cell: Cell, number: int, dist: str, seconds: Mapping[str, float | None]) -> ET.Element:
    verified = words.verified(cell)
    data = {
        "model": cell.model,
        "quantization": cell.quantization,
        "window": cell.variant,
        "target": cell.target,
        "state": cell.state,
        "verified": verified or words.UNKNOWN,
        "size": cell.library,
    }
    place = f"cell-{number}"
    button = element(
        "button",
        {"type": "button", "popovertarget": place, "class": f"state {_name(cell.state)}"},
        element("b", None, "–" if cell.library is None else words.size(cell.library)),
        element("span", {"class": "word"}, cell.state),
        element("span", {"class": " ".join(filter(None, ("seen", verified)))}, verified),
        element("small", None, " ".join(filter(None, (words.questions(cell), words.logits(cell))))),
    )
    attributes = {"role": "cell", **{f"data-{key}": value for key, value in data.items()}}
    return element("td", attributes, button, details(cell, place, dist, seconds))


def _name(state: str) -> str:
    """Return the class of a state."""
    return state.replace(" ", "-")


def _filters(release: Release) -> ET.Element:
    """Return what the script filters by; without a script nobody sees it."""
    # Firefox would choose again what was chosen before a reload, and nothing would be filtered by it
    attributes = {"class": "filters", "hidden": "", "autocomplete": "off"}
    made = element("form", {**attributes, "aria-label": "Filter the matrix"})
    values = {
        "model": [cell.model for cell in release.cells],
        "quantization": [cell.quantization for cell in release.cells],
        "window": [cell.variant for cell in release.cells],
        "target": [cell.target for cell in release.cells],
        "state": [state for state, _ in words.states(release)],
        "verified": [state for state, _ in words.verifications(release)],
    }
    for name in FILTERS:
        choices = list(dict.fromkeys(values[name]))
        if len(choices) < 2:
            continue
        options = [element("option", {"value": ""}, "all")]
        options += [element("option", {"value": choice}, choice) for choice in choices]
        chosen = element("select", {"name": name}, *options)
        made.append(element("label", None, element("span", None, name.capitalize()), chosen))
    append(
        made,
        [
            element("button", {"type": "reset"}, "Reset"),
            element("output", {"aria-live": "polite"}),
        ],
    )
    return made


def _plotted(model: str, found: Iterable[Plot], several: bool) -> ET.Element:
    made = element("section", {"class": "plots"})
    for plot in found:
        title = f"{plot.title}: {model}" if several else plot.title
        figures = [
            element("figure", None, element("figcaption", None, name), chart)
            for name, chart in plot.charts
        ]
        made.append(
            element(
                "article",
                {"class": "wide" if len(figures) > 1 else "single"},
                element("h2", None, title),
                element("p", None, plot.note),
                element("div", {"class": "figures"}, *figures),
            )
        )
    return made


def _graph(release: Release) -> ET.Element:
    scrolled = {"class": "scrolled", "role": "region", "tabindex": "0"}
    return element(
        "section",
        {"class": "graph"},
        element("h2", {"id": "graph-title"}, "What is built from what"),
        element("p", None, f"{words.counted(len(release.steps), 'node')} and their states."),
        element("div", {**scrolled, "aria-labelledby": "graph-title"}, picture(release.steps)),
    )


def _meanings() -> ET.Element:
    made = element("section", {"class": "meanings"}, element("h2", None, "What the words mean"))
    listed = element("dl")
    for state, meaning in CELL_STATES.items():
        told = element("dt", None, element("span", {"class": f"state {_name(state)}"}, state))
        append(listed, [element("div", None, told, element("dd", None, meaning))])
    for way, meaning in words.VERIFIED.items():
        told = element("dt", None, element("span", {"class": f"seen {way}"}, way))
        append(listed, [element("div", None, told, element("dd", None, meaning))])
    made.append(listed)
    return made
