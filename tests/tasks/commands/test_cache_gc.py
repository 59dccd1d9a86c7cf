"""`doit cache gc`, alone and beside a build."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cache.local.store import LocalStore
from cache.local.survey import survey
from tests.tasks.test_shared_builds import ROOT
from tests.tasks.toy import Project, Step

Capture = pytest.CaptureFixture[str]
STEPS = {"a": Step("A" * 2000), "b": Step("B", ["a"]), "c": Step("C", ["b"], dist=True)}


@pytest.fixture
def project(tmp_path: Path, capsys: Capture) -> Project:
    made = Project(tmp_path / "project", tmp_path / "cache", dict(STEPS))
    assert made.doit() == 0
    capsys.readouterr()
    return made


def test_what_a_project_has_built_stays(project: Project, capsys: Capture) -> None:
    assert project.doit("cache", "gc", "--max-size", "0") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("removed: 0 results, 0 blobs, 0 B; 6.")
    assert "are more than 0: projects or running builds need them" in shown.err
    shutil.rmtree(project.root / "build")
    shutil.rmtree(project.root / "dist")
    assert project.doit() == 0
    assert project.executed() == set()


def test_what_no_project_needs_any_more_goes(project: Project, capsys: Capture) -> None:
    project.steps["a"] = Step("X")
    assert project.doit() == 0
    capsys.readouterr()
    assert project.doit("cache", "gc", "--max-age=0s", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dry_run"], len(told["results"]), told["blobs"]) == (True, 3, 3)
    assert survey(project.cache).size == told["bytes"] + told["left"]
    assert project.doit("cache", "gc", "--max-age=0s") == 0
    assert "removed: 3 results, 3 blobs, 6." in capsys.readouterr().out
    assert survey(project.cache).size == told["left"]
    project.doit()
    assert project.executed() == set()


def test_a_removed_project_needs_nothing(project: Project, capsys: Capture) -> None:
    other = Project(project.root.parent / "other", project.cache)
    project.doit("cache", "gc", "--max-size=0")
    assert len(survey(project.cache).results) == 3
    capsys.readouterr()
    shutil.rmtree(project.root)
    assert other.doit("cache", "gc", "--max-size=0", "--dry-run") == 0
    assert "would be removed: 3 results, 3 blobs" in capsys.readouterr().out
    other.doit("cache", "gc", "--max-size=0")
    assert survey(project.cache).size == 0


def test_results_are_told_by_the_nodes_that_made_them(project: Project, capsys: Capture) -> None:
    shutil.rmtree(project.root / "build/receipts")
    project.doit("cache", "gc", "--max-size=0")
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines[:-1]} == {"step:a", "step:b", "step:c"}
    assert all(line.endswith(" s") and "  unused for " in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (["--max-size", "20 gigs"], "not a size: '20 gigs'\nhint: write it like 20GiB"),
        (["--max-size", "20"], "not a size: '20'\nhint: write it like 20GiB"),
        (["--max-size="], "not a size: ''"),
        (["--max-age", "30"], "not an age: '30'\nhint: write it like 30d"),
        (["step:a"], "it takes no tasks"),
    ],
)
def test_mistakes(project: Project, capsys: Capture, arguments: list[str], mistake: str) -> None:
    assert project.doit("cache", "gc", *arguments) == 3
    told = capsys.readouterr().err
    assert mistake in told
    assert "Traceback" not in told
    assert len(survey(project.cache).results) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_project_that_cannot_be_read_stops_it(project: Project, capsys: Capture) -> None:
    (project.root / "build/receipts").chmod(0)
    assert project.doit("cache", "gc", "--max-size=0") == 3
    assert "what this project needs cannot be read" in capsys.readouterr().err
    (project.root / "build/receipts").chmod(0o755)


BUILD = """
import sys
from pathlib import Path
from tests.tasks.commands.test_cache_gc import chain
from tests.tasks.toy import Project

root, cache = map(Path, sys.argv[1:])
sys.exit(Project(root, cache, chain()).doit("-n", "2"))
"""


def chain() -> dict[str, Step]:
    """Steps that need each other's files, made one after the other."""
    steps = {"0": Step("0")}
    for number in range(1, 13):
        steps[str(number)] = Step(str(number), [str(number // 2)])
    return steps


def test_builds_go_on_while_all_that_can_be_is_collected(tmp_path: Path, capsys: Capture) -> None:
    """Two projects are built by processes of their own; nothing that they need is taken away."""
    cache = tmp_path / "cache"
    keeper = Project(tmp_path / "keeper", cache)
    projects = [Project(tmp_path / name, cache, chain()) for name in ("one", "two")]
    builds = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(project.root), str(cache)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for project in projects
    ]
    running = True
    while running:
        running = any(build.poll() is None for build in builds)
        assert keeper.doit("cache", "gc", "--max-size=0") == 0
    for build in builds:
        _, shown = build.communicate()
        assert build.returncode == 0, shown
        assert "lost" not in shown
    assert sum(project.runs() for project in projects) <= 2 * len(chain())
    for project in projects:
        project.doit()
        assert project.executed() == set()
        store = LocalStore(cache)
        for path in (project.root / "build/step").rglob("*.txt"):
            assert store.contains(store.stat.digest(path))
    assert projects[0].contents() == projects[1].contents()
    capsys.readouterr()
