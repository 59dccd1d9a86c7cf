"""Plain and live forms."""

import io

import pytest

from tasks.board import Progress
from tasks.terminal import (
    LiveDisplay,
    PlainDisplay,
    Style,
    display,
    duration_text,
    progress_text,
    style_of,
)


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


def far(name: str) -> Progress | None:
    return Progress(600 << 20, 5 << 30, 100 << 20) if name == "step:[a]" else None


def test_how_far_an_action_is_without_a_terminal() -> None:
    stream = io.StringIO()
    shown = PlainDisplay(stream, heartbeat=3600, progress_of=far)
    shown.begin("step:[a]")
    shown.begin("step:b")
    first, second = shown.running()
    shown.stop()
    assert first == "step:[a] 0 s (600 MiB of 5.0 GiB, 100 MiB/s, 45 s left)"
    assert second == "step:b 0 s"


def test_how_far_an_action_is_on_a_terminal() -> None:
    stream = Terminal()
    shown = display(stream, Style(colour=False, live=True), heartbeat=3600, progress_of=far)
    shown.start(2)
    shown.begin("step:[a]")
    shown.print("a line redraws what is below it")
    shown.stop()
    assert "step:[a] 600 MiB of 5.0 GiB, 100 MiB/s, 45 s left" in stream.getvalue()


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (None, ""),
        (Progress(0, 2048, 0.0), "0 B of 2.0 KiB"),
        (Progress(1024, 2048, 0.5), "1.0 of 2.0 KiB, 0 B/s, 34 min 8 s left"),
        (Progress(2048, 2048, 9.0), "2.0 of 2.0 KiB"),
    ],
)
def test_progress_in_words(progress: Progress | None, text: str) -> None:
    assert progress_text(progress) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
