"""Sizes of terminals, and tables in narrow ones."""

import io

from tasks.display.terminal import folded, narrowed, terminal_size

TABLE = """\
model      window  how verified        accuracy
olmo-tiny  256     executed on x86_64  logits within 1e-06
olmo       512"""


def test_a_table_that_fits_stays_a_table() -> None:
    assert narrowed(TABLE, 60) == TABLE
    assert narrowed("", 10) == ""


def test_else_it_is_a_list() -> None:
    assert narrowed(TABLE, 40).splitlines() == [
        "model olmo-tiny, window 256, how",
        "  verified executed on x86_64, accuracy",
        "  logits within 1e-06",
        "model olmo, window 512",
    ]


def test_what_is_no_terminal_is_as_wide_as_most() -> None:
    assert tuple(terminal_size(io.StringIO())) == (80, 24)


def test_a_line_is_broken_between_words() -> None:
    line = "plan: 36 nodes, 12 cached, 0 remote, 24 to build"
    assert folded(line, 48) == line
    assert folded(line, 40) == "plan: 36 nodes, 12 cached, 0 remote, 24\n  to build"
    assert folded("a name:that-is-longer", 8) == "a\n  name:that-is-longer"
