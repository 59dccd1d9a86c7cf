"""Plain and live forms."""

import io

import pytest

from tasks.terminal import LiveDisplay, PlainDisplay, Style, display, style_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "style"),
    [
        (Terminal(), {"TERM": "xterm"}, Style(colour=True, live=True)),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, Style(colour=False, live=True)),
        (Terminal(), {"TERM": "dumb"}, Style(colour=False, live=False)),
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


def test_plain_display_writes_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    shown = PlainDisplay(stream, heartbeat=3600)
    shown.start(2)
    shown.begin("a")
    shown.print("built a")
    shown.advance("a")
    shown.stop()
    assert stream.getvalue() == "built a\n"


def test_live_display_keeps_every_line_and_clears_itself() -> None:
    stream = Terminal()
    shown = display(stream, Style(colour=False, live=True), heartbeat=3600)
    assert isinstance(shown, LiveDisplay)
    shown.start(2)
    shown.begin("step:[a]")
    shown.print("built  [bold]step:a[/bold] " + "x" * 300)
    shown.advance("step:[a]")
    shown.stop()
    text = stream.getvalue()
    assert "built  [bold]step:a[/bold] " + "x" * 300 in text
    assert "all nodes" in text
    assert text.endswith(("\033[2K", "\033[1A\033[2K", "\033[?25h")) or "\033[2K" in text
