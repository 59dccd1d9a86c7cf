"""The page: everything is in it, nothing of others is, and its colours can be read."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from tasks.report.page import page_text
from tasks.report.palette import DARK, LIGHT, MARKS, TEXT, contrast
from tasks.report.releases import CELL_STATES, Release
from tests.tasks.report.samples import HOSTILE, sample

VOID = {"meta", "link", "input", "wbr"}


class Page(HTMLParser):
    """A page as a browser reads it: elements with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.source: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.source[self.open[-1]] = data
        else:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(page_text(sample(), "../dist"))


def test_it_is_well_formed(page: Page) -> None:
    assert page.open == []
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found in page.elements:
        for reference in ("aria-labelledby", "popovertarget", "for"):
            assert found.get(reference) in {None, *ids}


def test_it_needs_nothing_else(page: Page) -> None:
    loaded = [
        found[name] for _, found in page.elements for name in ("src", "href") if name in found
    ]
    assert all(address and address.startswith(("#", "data:", "../dist/")) for address in loaded)
    assert "url(" not in page.source["style"]
    assert "@import" not in page.source["style"]
    assert not any(name.startswith("on") or name == "style" for _, e in page.elements for name in e)


def test_its_policy_allows_its_own_style_and_script_alone(page: Page) -> None:
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy is not None
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.source[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_table_is_one(page: Page) -> None:
    heads = [found["role"] for found in page.all("th")]
    assert heads.count("columnheader") == 3 + 4
    assert heads.count("rowheader") == 4 + 2
    cells = [found for found in page.all("td") if "data-state" in found]
    assert len(cells) == 6
    assert sum(found.get("class") == "absent" for found in page.all("td")) == 4 * 4 - 6
    assert all(found["role"] == "cell" for found in page.all("td"))


def test_states_have_words(page: Page) -> None:
    assert set(CELL_STATES) <= set(page.texts)
    assert {"executed", "checked", "unverified"} <= set(page.texts)


def test_details_are_told(page: Page) -> None:
    text = " ".join(page.texts)
    for told in (
        "1 min 15 s",
        "(convert 5.0 s, compile 1 min 10 s)",
        "(prefill 1e-07, decode 1e-06)",
        "1 + 1? 3, not 2",
        "0123456789abcdef" * 4,
        "sudo apt-get install nodejs",
        "never built here",
    ):
        assert told in text
    assert "../dist/libs/a%20b.so" in {found["href"] for found in page.all("a")}


def test_everything_is_plotted(page: Page) -> None:
    described = [found.get("aria-label") or "" for found in page.all("svg")]
    assert any("q4f16_1: size of libraries: linux-x86_64-cpu 2.0 MiB" in d for d in described)
    assert any(d.startswith("size of weights: q0f32 1.0 GiB") for d in described)
    assert any(d.startswith("mean error: q4f16_1 0.094") for d in described)
    assert any("q0f32: error of logits: linux-x86_64-cpu 1e-06 9/10" in d for d in described)
    assert any(
        d.startswith("time of building: convert 5.0 s, compile 1 min 10 s") for d in described
    )


def test_the_graph_is_drawn_in_the_colours_of_the_page(page: Page) -> None:
    (graph,) = [found for found in page.all("svg") if found.get("class") == "build-graph"]
    assert graph["role"] == "img"
    assert len(page.all("style")) == 1
    told = [found["class"] for found in page.all("g")]
    assert sorted(told) == ["current", "current", "current", "waiting"]
    assert "Build graph: 4 nodes" in page.texts


def test_names_are_text(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert page.texts.count(HOSTILE) > 3
    assert HOSTILE in {found.get("data-target") for found in page.all("td")}
    addresses = [found["href"] or "" for found in page.all("a")]
    assert not any(re.match(r"\s*javascript:", address) for address in addresses)


def test_equal_reports_are_equal_pages() -> None:
    assert page_text(sample(), "dist") == page_text(sample(), "dist")


def test_nothing_is_selected() -> None:
    found = Page(page_text(Release(()), "dist"))
    assert "Nothing is selected." in found.texts
    assert found.all("table") == []


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read(colours: dict[str, str]) -> None:
    low = {pair: contrast(*(colours[name] for name in pair)) for pair in TEXT}
    assert {pair: found for pair, found in low.items() if found < 4.5} == {}
    assert all(contrast(colours[mark], colours[back]) >= 3 for mark, back in MARKS)


def test_every_colour_of_the_style_is_in_both_schemes(page: Page) -> None:
    used = set(re.findall(r"var\(--([a-z-]+)\)", page.source["style"])) - {"ink", "back"}
    assert used == set(LIGHT) == set(DARK)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)
    assert contrast("#ff0000", "#ff0000") == 1


def test_a_reload_filters_by_nothing(page: Page) -> None:
    """Nor does any choice stay that looks as if it did."""
    (form,) = page.all("form")
    assert form["autocomplete"] == "off"


def test_what_is_not_verified_has_no_class_of_it(page: Page) -> None:
    classes = {word for _, found in page.elements for word in (found.get("class") or "").split()}
    assert "seen" in classes
    assert "None" not in classes
