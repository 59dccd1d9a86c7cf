"""What the documentation says to type or to write is what the program takes.

Every block of a language that can be checked is: commands and their options against the command
lines themselves, tasks against the graphs of the matrices here, TOML by the reader of matrices.
"""

from __future__ import annotations

import getopt
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from doit.cmd_base import DodoTaskLoader
from doit.doit_cmd import DoitMain

from olmo import cli
from tasks.configuration.matrix import KEYS, load, parse
from tasks.plan import plan
from tests.cache.servers import NGINX_CONFIG

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")
MATRICES = (ROOT / "matrix.toml", ROOT / "examples" / "release" / "matrix.toml")
# Programs of the system, whose options are not ours to check.
OTHERS = {
    "base64",
    "cat",
    "chown",
    "export",
    "head",
    "jq",
    "mkdir",
    "openssl",
    "printf",
    "rm",
    "sort",
    "tail",
}
PLACEHOLDER = re.compile(r"[A-Z]+|\$TASKS|\.\.\.|.*…")


def pages() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted([*found, ROOT / "bench" / "RESULTS.md"])


def blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(match[2], id=f"{path.name}:{match.start()}")
        for path in pages()
        for match in BLOCK.finditer(path.read_text(encoding="utf-8"))
        if match[1] in languages
    ]


def commands(text: str, *, console: bool) -> Iterator[list[str]]:
    """Yield the commands of a block, a program and its arguments each."""
    lines = text.replace("\\\n", " ").splitlines()
    if console:
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    plain = "\n".join(re.sub(r"(^|\s)#.*|\d?>&\d", "", line) for line in lines)
    lexer = shlex.shlex(plain, posix=True, punctuation_chars="&|;()\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[str] = []
    for word in [*lexer, ";"]:
        if word.strip("&|;()\n") == "":
            words = [w for w in found if not re.fullmatch(r"\w+=\S*|\d?>.*|<.*", w)]
            if words or found:
                yield words or ["export"]
            found = []
        else:
            found.append(word)


@cache
def tasks() -> frozenset[str]:
    """Names of all nodes here, and of the kinds they are of."""
    nodes = [name for matrix in MATRICES for name in plan(load(matrix)).nodes]
    return frozenset([*nodes, *(name.partition(":")[0] for name in nodes)])


def is_task(word: str) -> bool:
    return any(fnmatchcase(name, word) for name in tasks()) or bool(PLACEHOLDER.fullmatch(word))


def check_doit(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    patch.chdir(ROOT)
    main = DoitMain()
    known = main.get_cmds()
    words = [word for word in arguments if "=" not in word or word.startswith("-")]
    for word in arguments:
        if word not in words and not word.startswith("matrix="):
            raise AssertionError(f"no variable {word}")
        if word.startswith("matrix="):
            assert word == "matrix=FILE" or (ROOT / word.removeprefix("matrix=")).is_file()
    name = words.pop(0) if words and words[0] in known else "run"
    command = known.get_plugin(name)(
        task_loader=DodoTaskLoader(), config=main.config, bin_name="doit", cmds=known
    )
    if name == "cache" and words:
        command = command._subcommand(words.pop(0))
    parser = command.cmdparser
    if words == ["-n"]:  # named in a sentence, without its number
        words.append("2")
    _, given = getopt.gnu_getopt(words, parser.get_short(), parser.get_long())
    if name in {"run", "plan", "why", "check", "info", "clean", "forget", "ci-matrix"}:
        assert all(is_task(word) for word in given), given


def check_command(words: list[str], patch: pytest.MonkeyPatch) -> None:
    program, *arguments = words
    if program == "sudo":
        program, *arguments = arguments
    name = Path(program).name
    if name == "doit":
        check_doit(arguments, patch)
    elif name in {"python", "python3"} and arguments[0] == "bootstrap.py":
        extras = runpy.run_path(str(ROOT / "bootstrap.py"), run_name="bootstrap")["EXTRAS"]
        assert set(arguments[1:]) <= set(extras)
    elif name in {"python", "python3"} and arguments[:2] == ["-m", "olmo"]:
        cli._parser().parse_args(arguments[2:])
    elif name in {"python", "python3"}:
        place = arguments[1].replace(".", "/") + ".py" if arguments[0] == "-m" else arguments[0]
        assert (ROOT / place).is_file()
    else:
        assert name in {"mkdocs", "mypy", "pytest", "ruff", *OTHERS}, words


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_exist(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(text, console=False):
        check_command(words, monkeypatch)


@pytest.mark.parametrize("text", blocks("console"))
def test_commands_of_transcripts_exist(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(text, console=True):
        check_command(words, monkeypatch)


def inline() -> list[str]:
    """Return the commands of ours that stand in the text of pages, between backquotes."""
    found = set()
    for path in pages():
        if path.name == "CHANGELOG.md":
            continue  # is about what was
        text = BLOCK.sub("", path.read_text(encoding="utf-8"))
        found |= set(
            re.findall(r"`((?:\.venv/bin/)?doit [^`|\[]+|python3? bootstrap\.py[^`]*)`", text)
        )
    return sorted(" ".join(command.split()) for command in found)


@pytest.mark.parametrize("command", inline())
def test_commands_in_the_text_exist(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(command, console=False):
        check_command(words, monkeypatch)


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_is_what_a_matrix_may_say(text: str, tmp_path: Path) -> None:
    value = tomllib.loads(text.replace('"…"', f'"{"0" * 40}"'))
    if "tool" in value:
        return
    assert set(value) <= set(KEYS)
    models = value.setdefault("models", {})
    for model in models.values():
        if "source" not in model:
            model |= {"source": "local", "path": "."}
    row = {"quantizations": ["q0f32"], "windows": [64], "targets": ["linux-x86_64-cpu"]}
    rows = value.setdefault("release", [row | {"models": ["olmo-tiny"]}])
    for name in {name for row in rows for name in row["models"]} - set(models):
        models[name] = {"source": "local", "path": ".", "conv_template": "LM"}
    parse(value, tmp_path / "matrix.toml")


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_is_yaml(text: str) -> None:
    assert yaml.safe_load(text)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles(text: str) -> None:
    compile(text, "page", "exec")


@pytest.mark.parametrize("text", blocks("nginx"))
def test_nginx_is_configured_as_in_the_tests(text: str) -> None:
    tested = " ".join(NGINX_CONFIG.format(place="", port="", tls="", more="").split())
    for line in text.splitlines():
        assert " ".join(line.split()) in tested


def slug(heading: str) -> str:
    """Return the anchor that a heading has on GitHub."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for place, anchor in LINK.findall(text):
        target = (page.parent / place) if place else page
        assert target.exists(), place
        if anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in map(slug, headings), anchor


def test_every_page_is_linked() -> None:
    linked = {place for page in pages() for place, _ in LINK.findall(page.read_text("utf-8"))}
    names = {Path(place).name for place in linked}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= names | {"README.md"}


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs python3 bootstrap.py docs")
    pytest.importorskip("mkdocstrings", reason="needs python3 bootstrap.py docs")
    command = ("mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site"))
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (tmp_path / "site" / "reference").glob("*.html")}
    assert {"cache", "olmo", "tasks", "tasks.actions", "tasks.commands"} <= pages


def test_the_readme_begins_with_two_commands() -> None:
    """Those that .ci/run takes from it."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Two commands")[1]
    commands = section.split("```")[1].splitlines()[1:]
    assert [command.partition(" && ")[0] for command in commands] == [
        "python3 bootstrap.py",
        "python3 bootstrap.py test",
    ]
