"""What counts as a change of code, and what does not."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tasks.normalise import normalise

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1\n", "# a comment\nx = 1  # another\n"),
        (
            "def f(a, b):\n    return a + b\n",
            'def f(\n    a,\n    b,\n):\n    """Add."""\n    return (a + b)\n',
        ),
        ("x = 'text'\n", 'x = "text"\n'),
        ("class A:\n    pass\n", 'class A:\n    """Only this."""\n'),
        ("y = f'{x!r:>{w}} {{}}'\n", 'y = f"{x!r:>{w}} {{}}"\n'),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(before: str, after: str) -> None:
    assert normalise(before) == normalise(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1\n", "x = 2\n"),
        ("def f(a):\n    return a\n", "def f(b):\n    return b\n"),
        ("x = f'{a}'\n", "x = f'{b}'\n"),
        ("x = f'{a!r}'\n", "x = f'{a!s}'\n"),
        ("x = f'{a:2}'\n", "x = f'{a:3}'\n"),
    ],
)
def test_meaning_counts(before: str, after: str) -> None:
    assert normalise(before) != normalise(after)


def test_normalised_source_means_the_same() -> None:
    source = textwrap.dedent('''
        """Doc."""
        def f(x, w):
            """More."""
            return f"{x!r:>{w}}|{{{x}}}|{x + 1:03d}|" f"{'a' if x else 'b'}"
        value = f(7, 4)
    ''')
    results = []
    for text in (source, normalise(source)):
        namespace: dict[str, object] = {}
        exec(compile(text, "test", "exec"), namespace)  # noqa: S102  (the text is above)
        results.append(namespace["value"])
    assert results[0] == results[1] == "   7|{7}|008|a"


def test_normalised_source_is_pinned() -> None:
    """One text under every Python version: a change here changes every key."""
    source = "def f(a, *b, c=1, **d) -> 'x':\n    'doc'\n    return f\"{a!r}{', '.join(f'{i:>{c}}' for i in b)}\"\n"
    assert normalise(source) == (
        "def f(a, *b, c=1, **d) -> 'x':\n"
        "    return '{0!r}{1}'.format(a, ', '.join(('{0:>{1}}'.format(i, c) for i in b)))\n"
    )


# Prints a digest of every module of the project, normalised; needs no installed package.
DIGEST = """
import hashlib, runpy
from pathlib import Path
normalise = runpy.run_path("tasks/normalise.py")["normalise"]
total = hashlib.sha256()
for path in sorted(p for d in ("cache", "olmo", "tasks") for p in Path(d).rglob("*.py")):
    total.update(normalise(path.read_text(encoding="utf-8")).encode())
print(total.hexdigest())
"""


def test_python_versions_agree() -> None:
    """Over the whole project, under each supported interpreter that this machine has."""
    here = subprocess.run(
        [sys.executable, "-c", DIGEST], cwd=ROOT, capture_output=True, text=True, check=True
    )
    others = []
    for version in ("3.11", "3.12", "3.13", "3.14"):
        try:
            done = subprocess.run(
                [f"python{version}", "-c", DIGEST],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            continue
        if done.returncode == 0:  # a launcher without its interpreter fails
            others.append(done.stdout)
    assert set(others) <= {here.stdout}
