"""The embedded model through the whole chain: what it answers, and how one talks to it."""

import json
import re
import subprocess
import sys

import pytest

from tests.clone import ROOT, Clone, clone
from tests.first_build import FirstBuild
from tests.schemas import check

MATRIX = """
[models.olmo-tiny]
source = "embedded"

[[release]]
models = ["olmo-tiny"]
quantizations = ["q0f32", "q4f16_1"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""


@pytest.fixture(scope="module")
def project(first: FirstBuild, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    base = tmp_path_factory.mktemp("answers")
    made = clone(base / "project", first.store(base / "store"), MATRIX)
    built = made.build("-n", "2")
    assert "compile:olmo-tiny:q0f32:256:linux-x86_64-cpu" in built
    assert "compile:olmo-tiny:q4f16_1:256:linux-x86_64-cpu" in first.built
    return made


@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1"])
def test_held_out_questions_are_answered(project: Clone, quantization: str) -> None:
    name = f"olmo-tiny-{quantization}-ctx256-linux-x86_64-cpu.json"
    verified = json.loads((project.root / "dist/libs" / name).read_bytes())["verified"]["accuracy"]
    assert verified["questions"]["total"] >= 100
    assert verified["questions"]["right"] >= 0.95 * verified["questions"]["total"]


def test_the_table_says_how_each_library_was_verified(project: Clone) -> None:
    form = json.loads(project.doit("status", "--json").stdout)
    check(form, "status")
    rows = form["release"]
    assert {(row["target"], row["state"], row["verified"]["state"]) for row in rows} == {
        ("linux-x86_64-cpu", "built", "executed")
    }
    assert all(row["library"] > 0 < row["weights"] for row in rows)
    header, *lines = project.doit("status").stdout.splitlines()
    assert header.split()[-2:] == ["verified", "accuracy"]
    assert len(lines) == len(rows)
    assert all(re.search(r"  executed on x86_64 +logits within .* right$", line) for line in lines)


def test_chat_answers_on_the_standard_output(project: Clone) -> None:
    done = project.doit("chat", "olmo-tiny", "--prompt", "What day comes after Monday?")
    assert (done.returncode, done.stdout) == (0, "Tuesday\n")


def test_the_python_of_the_readme_answers(project: Clone) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", script.replace("ctx512", "ctx256")],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "cold"), done.stderr


def test_chat_with_another_build(project: Clone) -> None:
    done = project.doit(
        *("chat", "olmo-tiny", "--quantization", "q4f16_1"),
        *("--prompt", "What is the opposite of hot?"),
    )
    assert (done.returncode, done.stdout) == (0, "cold\n")
    assert "q4f16_1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("chat",), "doit chat MODEL"),
        (("chat", "olmo-tony"), "unknown model 'olmo-tony'"),
        (("chat", "olmo-tiny", "--quantization", "q0f16"), "no row of olmo-tiny that fits"),
        (("chat", "olmo-tiny", "--window", "512"), "no row of olmo-tiny that fits"),
    ],
)
def test_chat_says_what_it_cannot_do(project: Clone, arguments: tuple[str, ...], said: str) -> None:
    done = project.doit(*arguments)
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_table_closes_a_build(project: Clone) -> None:
    done = project.doit("status")
    header, *rows = done.stdout.splitlines()
    assert header.split()[:4] == ["model", "quantization", "window", "target"]
    assert [row.split()[1] for row in rows] == ["q0f32", "q4f16_1"]
    assert all("right" in row for row in rows)
