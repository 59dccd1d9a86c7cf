"""Markdown of a report, as GitHub reads it."""

import re

from tasks.report.markdown import markdown_text, text
from tasks.report.releases import Release
from tests.tasks.report.samples import sample


def tables(found: str) -> list[list[list[str]]]:
    """Return the cells of each table by the rules of GitHub: an escaped bar ends none."""
    made: list[list[list[str]]] = [[]]
    for line in found.splitlines():
        if line.startswith("|"):
            made[-1].append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif made[-1]:
            made.append([])
    return [table for table in made if table]


def test_the_matrix() -> None:
    found = markdown_text(sample(), "dist")
    assert "6 libraries: 1 built, 1 cached, 1 remote, 1 stale, 1 not built, 1 broken" in found
    (head, _, first, second, third), *_ = tables(found)
    assert head[:4] == ["quantization", "window", "`linux-x86_64-cpu`", "`webgpu`"]
    assert first[2] == "🟩 built<br>3.0 MiB<br>executed<br>9/10, 1e-06"
    assert second[:4] == [
        *("`q4f16_1`", "256", "🟨 stale<br>2.0 MiB<br>executed<br>9/10, 1e-06", "⬜ not built"),
    ]
    assert third[1:5] == ["1024-tp2", "", "", "🟪 remote<br>5.0 MiB<br>checked"]


def test_every_library_has_a_line() -> None:
    found = markdown_text(sample(), "../dist")
    head, _, first, *rest = tables(found)[-1]
    told = dict(zip(head, first, strict=True))
    assert told["build time"] == "1 min 15 s"
    assert told["verified"] == "executed on x86_64"
    assert told["key"] == "`0123456789ab`"
    assert told["files"].startswith("[library](../dist/libs/a%20b.so), [manifest]")
    assert len(rest) == 5


def test_names_are_text() -> None:
    found = markdown_text(sample(), "dist")
    assert "<script" not in found
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]\(javascript", found)
    widths = [{len(row) for row in table} for table in tables(found)]
    assert all(len(width) == 1 for width in widths)


def test_text_leaves_names_readable() -> None:
    assert text("q4f16_1 on x86_64") == "q4f16_1 on x86_64"
    assert text("_a_ | <b> & `c`\nd") == "\\_a\\_ \\| &lt;b&gt; &amp; \\`c\\` d"


def test_nothing_is_selected() -> None:
    assert markdown_text(Release(()), "dist") == "# Release matrix\n\nNothing is selected.\n"
