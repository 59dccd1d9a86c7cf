"""What events are called."""

import pytest

from tasks.board import Progress
from tasks.display.amounts import duration_text
from tasks.display.events import Ended, Failed, Finished
from tasks.display.style import Style
from tasks.display.wording import ending, failure_text, finished_line, last_line, progress_text

PLAIN = Style(colour=False, live=False)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (None, ""),
        (Progress(0, 2048, 0.0), "0 B of 2.0 KiB"),
        (Progress(1024, 2048, 0.5), "1.0 of 2.0 KiB, 0 B/s, 34 min 8 s left"),
        (Progress(2048, 2048, 9.0), "2.0 of 2.0 KiB"),
    ],
)
def test_progress(progress: Progress | None, text: str) -> None:
    assert progress_text(progress) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (7200, "2 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_failure_says_what_where_and_what_next() -> None:
    failed = Failed(
        "compile:m",
        "the linker failed\nld: no such symbol",
        41.2,
        hint="install it",
        output=("a", "b"),
        log="build/logs/compile/m.log",
        again="doit compile:m",
    )
    assert failure_text(failed, PLAIN) == (
        "FAILED compile:m (41 s)\n"
        "  the linker failed\n"
        "  ld: no such symbol\n"
        "  | a\n"
        "  | b\n"
        "  log: build/logs/compile/m.log\n"
        "  again: doit compile:m\n"
        "  hint: install it"
    )
    assert failure_text(Failed("a", "no", 0.0), PLAIN) == "FAILED a (0 s)\n  no"


@pytest.mark.parametrize(
    ("counts", "saved", "line"),
    [
        (
            {"local": 9, "remote": 3, "built": 2},
            420.0,
            "9 local, 3 remote, 2 built; saved 7 min",
        ),
        ({"built": 14}, None, "0 local, 0 remote, 14 built"),
        ({"local": 14}, 0.4, "14 local, 0 remote, 0 built"),
        (
            {"not run": 2, "failed": 1, "ignored": 1, "built": 9, "elsewhere": 1},
            None,
            "0 local, 0 remote, 9 built, 1 elsewhere, 1 ignored, 1 failed, 2 not run",
        ),
    ],
)
def test_the_last_line(counts: dict[str, int], saved: float | None, line: str) -> None:
    assert last_line(Ended(14, counts, 1.25, saved), PLAIN) == f"14 nodes: {line} (1.2 s)"


def test_failures_once_more() -> None:
    event = Ended(1, {"failed": 1}, 0.0, failures=(Failed("a:b", "no"),))
    line = "1 node: 0 local, 0 remote, 0 built, 1 failed (0.0 s)"
    assert list(ending(event, PLAIN, repeat=True)) == ["", "FAILED a:b (0 s)\n  no", line]
    assert list(ending(event, PLAIN, repeat=False)) == [line]


def test_no_program_gives_orders_to_the_terminal() -> None:
    failed = Failed("a:b", "\033[2Jx\033]0;t\007", output=("50%\r\033[1;31m100%\tof\x9b it ",))
    assert failure_text(failed, PLAIN) == "FAILED a:b (0 s)\n  x ]0;t\n  | 50% 100%    of  it"


def test_what_came_of_a_node() -> None:
    assert finished_line(Finished("a:b", "built", 2.64, 1, ""), PLAIN) == "built  a:b (2.6 s)"
    beside = Finished("a:b", "built", 0.0, 1, "", beside="a:c")
    assert finished_line(beside, PLAIN) == "built  a:b (with a:c)"
    assert finished_line(Finished("a:b", "remote", 0.0, 1, ""), PLAIN) == "remote a:b"
