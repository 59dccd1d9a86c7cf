"""Colours and live lines: where there are which."""

import io

import pytest

from tasks.display.style import Style, style_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "style"),
    [
        (Terminal(), {"TERM": "xterm"}, Style(colour=True, live=True)),
        (Terminal(), {"TERM": "tmux-256color"}, Style(colour=True, live=True)),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, Style(colour=False, live=True)),
        (Terminal(), {"TERM": "dumb"}, Style(colour=False, live=False)),
        (Terminal(), {"TERM": "dumb", "FORCE_COLOR": "1"}, Style(colour=True, live=False)),
        (Terminal(), {}, Style(colour=False, live=False)),
        (io.StringIO(), {"TERM": "xterm"}, Style(colour=False, live=False)),
        (io.StringIO(), {"FORCE_COLOR": "1"}, Style(colour=True, live=False)),
        (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, Style(colour=False, live=False)),
    ],
)
def test_style(stream: io.StringIO, environment: dict[str, str], style: Style) -> None:
    assert style_of(stream, environment) == style


def test_without_colour_text_is_text() -> None:
    plain = Style(colour=False, live=False)
    assert plain.good("a") + plain.warn("b") + plain.bad("c") == "abc"
    assert Style(colour=True, live=False).bad("x") == "\033[1;31mx\033[0m"
