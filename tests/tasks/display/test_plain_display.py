"""Lines, and signs of life."""

import io
import threading
from pathlib import Path

from tasks.board import Progress
from tasks.display.plain_display import PlainDisplay


def test_it_writes_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    shown = PlainDisplay(stream, heartbeat=3600)
    shown.start(2, 0)
    shown.begin("a")
    shown.print("built a")
    shown.advance("a")
    shown.stop()
    assert stream.getvalue() == "built a\n"


def test_nothing_comes_below_the_line_that_cuts_it_off(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("w") as stream:
        shown = PlainDisplay(stream, heartbeat=3600)
        shown.print("built a")
        shown.cut_off("interrupted")
        shown.print("2 nodes")
    assert (tmp_path / "lines").read_text() == "built a\ninterrupted\n"


def far(name: str) -> Progress | None:
    return Progress(600 << 20, 5 << 30, 100 << 20) if name == "step:[a]" else None


def test_it_says_how_far_an_action_is() -> None:
    stream = io.StringIO()
    shown = PlainDisplay(stream, heartbeat=3600, progress_of=far)
    shown.begin("step:[a]")
    shown.begin("step:b")
    first, second = shown.running()
    shown.stop()
    assert first == "step:[a] 0 s (600 MiB of 5.0 GiB, 100 MiB/s, 45 s left)"
    assert second == "step:b 0 s"


class Waited(io.StringIO):
    """A stream that says when something is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


def test_it_gives_a_sign_of_life() -> None:
    stream = Waited()
    shown = PlainDisplay(stream, heartbeat=0.01, progress_of=far)
    shown.start(7, 3)
    shown.begin("step:[a]")
    assert stream.written.wait(60)
    shown.stop()
    line = stream.getvalue().splitlines()[0]
    assert line.startswith("[3/7] still running: step:[a] 0 s (600 MiB of 5.0 GiB")
