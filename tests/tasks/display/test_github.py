"""What GitHub Actions is told: commands that say what is meant and nothing else, and a summary."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.display.annotations import annotated, annotation
from tasks.display.events import Ended, Failed
from tasks.display.github import summary
from tests.tasks.toy import Project, Step

IN = {"GITHUB_ACTIONS": "true"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    steps = {
        "a": Step("A", ["one.txt"]),
        "b": Step("B", ["a"], fail=True),
        "c": Step("C", ["a"]),
        "d": Step("D", ["b"]),
    }
    made = Project(tmp_path / "project", tmp_path / "cache", steps)
    (made.source / "one.txt").write_text("1")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(made.root))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return made


class Runner:
    """What GitHub's runner makes of the output: commands that it obeys, lines that it shows."""

    def __init__(self, text: str) -> None:
        self.commands: list[str] = []
        self.lines: list[str] = []
        stopped = None
        for line in text.splitlines():
            if stopped and line == f"::{stopped}::":
                stopped = None
            elif line.lstrip().startswith("::") and not stopped:
                if line.startswith("::stop-commands::"):
                    stopped = line.removeprefix("::stop-commands::")
                else:
                    self.commands.append(line)
            elif not line.startswith("::stop-commands::"):
                self.lines.append(line)
        self.stopped = stopped


@pytest.mark.parametrize("parallel", [[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
def test_a_failing_run(
    project: Project, capsys: pytest.CaptureFixture[str], parallel: list[str]
) -> None:
    assert project.doit("--continue", *parallel) == 1
    shown = Runner(capsys.readouterr().err)
    assert shown.stopped is None
    failed = (
        "::error title=FAILED step%3Ab::RuntimeError: told to fail%0A"
        "hint: this is a defect of Olmill; please report it with the log"
    )
    assert shown.commands == [
        "::group::what each node needs, and why",
        "::endgroup::",
        failed,
        "::group::log of step:b",
        "::endgroup::",
    ]
    assert any(line.startswith("stale    step:a  never built here") for line in shown.lines)
    assert "Traceback (most recent call last):" in shown.lines
    assert re.match(r"4 nodes: 0 local, 0 remote, 2 built, 1 failed, 1 not run", shown.lines[-1])


def test_a_summary_of_the_step(project: Project, tmp_path: Path) -> None:
    project.doit("--continue")
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("### 4 nodes&#58; 0 local, 0 remote, 2 built, 1 failed, 1 not run (")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == [
        "| node", "| step&#58;a", "| step&#58;b", "| step&#58;c",
    ]  # fmt: skip
    assert rows[1][2] == "never built here |"
    assert "<pre>FAILED step:b (0 s)\n  RuntimeError: told to fail\n" in text


def test_nothing_to_do_is_one_line(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    project.steps["b"] = Step("B", ["a"])
    project.doit()
    capsys.readouterr()
    (tmp_path / "summary.md").unlink()
    project.doit()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "summary.md").read_text().count("\n") == 2


def test_warnings_are_annotations(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "toyactions/concat.py").write_text(
        (project.root / "toyactions/concat.py").read_text() + WARNING
    )
    project.steps["b"] = Step("B", ["a"])
    project.doit("step:a")
    shown = Runner(capsys.readouterr().err)
    assert "::warning title=step%3Aa::50%25 of it%0A::error::x" in shown.commands
    assert not [line for line in shown.lines if "50%" in line]


WARNING = """

plain = run


def run(params, inputs, outputs, progress):
    plain(params, inputs, outputs, progress)
    return ["50% of it\\n::error::x"]
"""


def test_nothing_that_is_printed_gives_a_command(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.root / "toyactions/concat.py"
    told = 'RuntimeError("x\\n::add-mask::e\\n::error::forged")'
    path.write_text(path.read_text().replace('RuntimeError("told to fail")', told))
    project.doit("--continue")
    shown = Runner(capsys.readouterr().err)
    assert not [command for command in shown.commands if command.startswith(("::add", "::error::"))]
    assert "  ::error::forged" in shown.lines


def test_a_mistake_in_a_file_is_annotated_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    matrix = tmp_path / "a/matrix.toml"
    matrix.touch()
    text = "matrix.toml: no TOML (at line 3, column 14)"
    environment = {**IN, "GITHUB_WORKSPACE": str(tmp_path)}
    assert annotated(text, environment, matrix).splitlines() == [
        text,
        "::error file=a/matrix.toml,title=Olmill,line=3,col=14::" + text,
    ]
    assert annotated(text, {}, matrix) == text


def test_a_text_that_names_a_file_of_the_repository_is_about_that_file(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/config, 1.json").touch()
    (tmp_path / "models/config.json").touch()
    found = annotation("error", "cannot read models/config.json: no such key", "t:x", tmp_path)
    assert found.startswith("::error file=models/config.json,title=t%3Ax::")
    outside = annotation("error", "cannot read ../models/else.json or /etc/passwd", "t", tmp_path)
    assert outside.startswith("::error title=t::")


def test_a_property_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a,b:c.toml"
    path.touch()
    assert annotation("error", "100%\r\n", "a: b, c", tmp_path, path) == (
        "::error file=a%2Cb%3Ac.toml,title=a%3A b%2C c::100%25%0D%0A"
    )


class Text(HTMLParser):
    """Text of a page, and the tags in it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.said += data


def test_nothing_in_a_summary_is_markup() -> None:
    nasty = "a|b `c` <img src=x> [d](e) **f** &amp; @g #1\n| h"
    failed = Failed("x:y", "</pre><script>1</script>")
    text = summary(Ended(2, {"failed": 1}, 1.0, failures=[failed]), [(nasty, "built", "")])
    page = Text()
    page.feed(text)
    assert page.tags == {"pre"}
    row = next(line for line in text.splitlines() if line.startswith("| a"))
    assert row.count("|") == 4
    shown = Text()
    shown.feed(row)
    assert "a|b `c` <img src=x> [d](e) **f** &amp; @g #1 | h" in shown.said


def test_a_long_summary_says_how_much_is_left_out() -> None:
    rows = [(f"step:{number}", "built", "never built here") for number in range(100_000)]
    failures = [Failed(f"x:{number}", "y" * 100_000) for number in range(10)]
    text = summary(Ended(100_000, {"built": 100_000}, 1.0, failures=failures), rows)
    assert "and 99700 more" in text
    assert len(text.encode()) < 1 << 20
