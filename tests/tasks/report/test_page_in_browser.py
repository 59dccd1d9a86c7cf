"""The page as Chromium shows it: wide and on a phone, light and dark, by keyboard, without script.

With OLMILL_SCREENSHOTS set to a directory the screenshots are left there, to be looked at.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from olmo.verification.emulator import place
from olmo.wasm.packages import chromium, has_packages, node
from tasks.report.page import page_text
from tasks.report.palette import DARK, LIGHT
from tests.tasks.report.samples import HOSTILE, sample

SCRIPT = Path(__file__).with_name("browser.mjs")


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what the browser saw of the page of a sample."""
    program, browser, packages = node(), chromium(), place("web")
    if program is None:
        pytest.skip("node is not installed")
    if browser is None:
        pytest.skip("chromium is not installed")
    if not has_packages(packages):
        pytest.skip("the packages of npm are not installed: python3 bootstrap.py verify")
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(page_text(sample(), "dist"), encoding="utf-8")
    kept = os.environ.get("OLMILL_SCREENSHOTS", "")
    done = subprocess.run(
        [program, SCRIPT, packages, browser, page, kept],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def colour(palette: dict[str, str]) -> str:
    """Return the colour of a page as browsers compute it."""
    red, green, blue = (int(palette["page"][at : at + 2], 16) for at in (1, 3, 5))
    return f"rgb({red}, {green}, {blue})"


def test_nothing_is_complained_of_and_nothing_asked_for(saw: Any) -> None:
    assert saw["complaints"] == []
    assert saw["title"] == f"Release matrix: m, {HOSTILE}"


@pytest.mark.parametrize("width", ["wide", "phone"])
def test_it_fits_and_every_cell_can_be_pressed(saw: Any, width: str) -> None:
    assert saw[width]["overflow"] == [0, []]
    assert saw[width]["covered"] == 0
    assert saw[width]["cells"] == 6


def test_details_open_on_a_phone(saw: Any) -> None:
    assert saw["phone"]["opened"] == ["m q0f32"]
    assert saw["phone"]["box"]


def test_it_can_be_used_by_keyboard(saw: Any) -> None:
    assert saw["skip"] == "#matrix"
    assert saw["opened"] == ["m q0f32"]
    assert "1 + 1? 3, not 2" in saw["told"]
    assert saw["inside"] == "Close"
    assert (saw["closed"], saw["focus"]) == ([], "cell-0")


def test_colours_follow_the_system_and_the_switch(saw: Any) -> None:
    assert (saw["light"], saw["dark"]) == (colour(LIGHT), colour(DARK))
    assert (saw["switched"], saw["switchedBack"]) == (colour(DARK), colour(LIGHT))


def test_rows_are_sorted_within_their_model(saw: Any) -> None:
    assert saw["rows"] == ["q0f32", "q4f16_1", "q4f16_1", HOSTILE]
    assert saw["ascending"] == ["q4f16_1", "q0f32", "q4f16_1", HOSTILE]
    assert saw["descending"] == ["q0f32", "q4f16_1", "q4f16_1", HOSTILE]
    assert saw["sorted"] == "descending"


def test_cells_are_filtered(saw: Any) -> None:
    assert saw["filtered"] == {"cells": 1, "told": "1 of 6 libraries", "rows": ["q4f16_1"]}
    assert saw["reset"] == 6


def test_it_is_complete_without_script(saw: Any) -> None:
    assert saw["plain"] == {"cells": 6, "filters": 0, "opened": ["m q0f32"]}
