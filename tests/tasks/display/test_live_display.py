"""Lines that change in place, as a terminal shows them."""

import io
import os
import re
from pathlib import Path

import pyte
import pytest

from tasks.board import Progress
from tasks.display.events import Planned
from tasks.display.live_display import LiveDisplay
from tasks.display.pace import Pace
from tasks.display.style import Style

NAME = "compile:olmo-tiny:q4f16_1:512:linux-x86_64-cpu"


def far(name: str) -> Progress | None:
    return Progress(600 << 20, 5 << 30, 100 << 20) if name.startswith("convert") else None


class Screen:
    """A terminal of so many columns that shows a display; nothing is drawn but when lines are."""

    def __init__(self, columns: int, rows: int = 10, *, colour: bool = False) -> None:
        self.columns, self.rows = columns, rows
        self.screen = pyte.Screen(columns, rows)
        self.input = pyte.Stream(self.screen)
        self.raw = io.StringIO()
        pace = Pace(Planned({}, 0, 1))
        style = Style(colour=colour, live=True)
        self.display = LiveDisplay(self.raw, style, pace, far, refresh=3600)
        self.display.size_of = lambda: os.terminal_size((self.columns, self.rows))
        self.display.start(4, 1)

    def resize(self, columns: int) -> None:
        self.columns = columns
        self.show()
        self.screen.resize(columns=columns)

    def show(self) -> list[str]:
        """What is on the screen now, without the empty lines at its end."""
        self.input.feed(self.raw.getvalue().replace("\n", "\r\n"))
        self.raw.seek(0)
        self.raw.truncate()
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().splitlines()


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            100,
            [
                "built  a:b",
                "━━━━━━━╸                       1/4  0 s",
                "   0 s  convert:olmo-tiny:q4f16_1  600 MiB of 5.0 GiB, 100 MiB/s, 45 s left",
                "   0 s  compile:olmo-tiny:q4f16_1:512:linux-x86_64-cpu",
            ],
        ),
        (
            40,
            [
                "built  a:b",
                "━━━━━━━╸                       1/4  0 s",
                "   0 s  convert:o…ny:q4f16_1  45 s left",
                "   0 s  compile:olmo-ti…inux-x86_64-cpu",
            ],
        ),
    ],
)
def test_it_fits(columns: int, lines: list[str]) -> None:
    screen = Screen(columns)
    screen.display.begin("convert:olmo-tiny:q4f16_1")
    screen.display.begin(NAME)
    screen.display.print("built  a:b")
    shown = screen.show()
    screen.display.stop()
    assert [line[: columns - 1] for line in shown] == shown
    assert shown == lines
    assert screen.show() == lines[:1]


def test_what_was_written_stays_and_nothing_else() -> None:
    screen = Screen(60)
    screen.display.print("plan")
    screen.display.begin("step:[a]")
    screen.display.print("built  [bold]step:a[/bold] " + "x" * 60)
    screen.display.advance("step:[a]")
    screen.show()
    assert screen.screen.cursor.hidden
    screen.display.stop()
    text = "built  [bold]step:a[/bold] " + "x" * 60
    assert screen.show() == ["plan", text[:60], text[60:]]
    assert not screen.screen.cursor.hidden


@pytest.mark.parametrize(("before", "after"), [(100, 40), (40, 100), (100, 12)])
def test_a_resize_leaves_nothing_behind(before: int, after: int) -> None:
    screen = Screen(before)
    screen.display.begin("convert:olmo-tiny:q4f16_1")
    screen.display.begin(NAME)
    screen.display.print("one")
    screen.resize(after)
    screen.display.print("two")
    shown = screen.show()
    assert shown[:2] == ["one", "two"]
    assert len(shown) == 5
    screen.display.stop()
    assert screen.show() == ["one", "two"]


def test_lines_that_the_terminal_has_wrapped_are_cleared_too() -> None:
    """Terminals that wrap anew when they become narrower keep the cursor with its text."""
    screen = Screen(100)
    screen.display.begin(NAME)
    screen.display.print("one")
    screen.show()
    wrapped = screen.screen.cursor.y + 1  # the line below the cursor takes two rows now
    screen.columns = 30
    screen.screen.resize(columns=30)
    for row in range(wrapped, wrapped + 3):
        for column in range(30):
            screen.screen.buffer[row][column] = screen.screen.buffer[row][column]._replace(data="#")
    screen.display.print("two")
    assert not [line for line in screen.show() if "#" in line]


def test_more_nodes_than_rows() -> None:
    screen = Screen(60, rows=6)
    for number in range(9):
        screen.display.begin(f"step:{number}")
    screen.display.print("one")
    assert screen.show() == [
        "one",
        "━━━━━━━╸                       1/4  0 s",
        "   0 s  step:0",
        "   0 s  step:1",
        "   0 s  step:2",
        "  and 6 more",
    ]
    for _ in range(20):
        screen.display.print("line")
    screen.display.stop()
    assert set(screen.show()) == {"line"}


def test_colours_only_where_they_are_wanted() -> None:
    plain, coloured = Screen(60), Screen(60, colour=True)
    for screen in (plain, coloured):
        screen.display.begin("convert:a")
        screen.display.print("one")
        screen.display.stop()

    def colours(screen: Screen) -> set[str]:
        found = re.findall(r"\033\[([\d;]*)m", screen.raw.getvalue())
        return {code for codes in found for code in codes.split(";")}

    assert colours(coloured) >= {"32", "36", "90"}
    assert colours(plain) <= {"0", "2"}  # dim is no colour
    plain_lines, coloured_lines = plain.show(), coloured.show()
    assert plain_lines == coloured_lines == ["one"]


def test_lines_that_are_on_their_way_when_the_terminal_becomes_narrower_are_cut_off() -> None:
    screen = Screen(100)
    screen.screen.resize(columns=40)
    screen.display.begin(NAME)
    screen.display.print("one")
    assert len(screen.show()) == 3
    screen.columns = 40
    screen.display.print("two")
    screen.display.stop()
    assert screen.show() == ["one", "two"]


def test_nothing_comes_below_the_line_that_cuts_it_off(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w") as stream:
        pace = Pace(Planned({}, 0, 1))
        shown = LiveDisplay(stream, Style(colour=False, live=True), pace, far, refresh=3600)
        shown.begin("a")
        shown.cut_off("interrupted")
        shown.print("2 nodes")
        shown.stop()
    assert (tmp_path / "terminal").read_text().endswith("interrupted\n\033[?25h")
