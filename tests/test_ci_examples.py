"""The workflows that projects copy: every command in them is one, and together they do what they say."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from tasks.ci_jobs import Job, Machine
from tasks.commands.ci_matrix import GITLAB_JOB, GITLAB_TEMPLATE, RUNNERS, github, gitlab
from tests.cache.servers import nginx
from tests.clone import ROOT
from tests.tasks.toy import Project, Step

EXAMPLES = ROOT / "examples" / "ci"
NAMES = ("github.yml", "gitlab.yml", "gitlab-build.yml")
DOIT, BOOTSTRAP = ".venv/bin/doit", "python3 bootstrap.py"

JOB = Job("rows 1/1", "rows", Machine("ubuntu"), ("a:b",), frozenset({"a:b"}), 1.0)


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def scripts(value: Any) -> Iterator[str]:
    """Every line of a shell script in a workflow, however deep it is."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("run", "script"):
                for text in [item] if isinstance(item, str) else item:
                    yield from text.splitlines()
            else:
                yield from scripts(item)
    elif isinstance(value, list):
        for item in value:
            yield from scripts(item)


def commands(name: str, program: str) -> list[list[str]]:
    found = []
    for line in scripts(read(name)):
        for part in re.split(r"[;>|]", line):
            _, at, arguments = part.partition(program)
            if at:
                found.append(shlex.split(arguments))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_doit_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    main = DoitMain(ModuleTaskLoader({}))
    known = main.get_cmds()
    found = commands(name, DOIT)
    assert found
    for arguments in found:
        command = arguments.pop(0) if arguments and arguments[0] in known else "run"
        parser = known.get_plugin(command)(
            task_loader=main.task_loader, config=main.config, cmds=known
        ).cmdparser
        _, rest = parser.parse(arguments)  # raises for an option that is none
        assert set(rest) <= {"$TASKS"}


@pytest.mark.parametrize("name", NAMES)
def test_extras_are_those_of_bootstrap(name: str) -> None:
    source = (ROOT / "bootstrap.py").read_text()
    listed = re.search(r"EXTRAS = \((.*?)\)", source)
    assert listed is not None
    tools = {"$EXTRAS", "$TOOLS"}
    for arguments in commands(name, BOOTSTRAP):
        assert {f'"{extra}"' for extra in set(arguments) - tools} <= set(listed[1].split(", "))


def test_what_a_matrix_is_asked_for_is_in_it() -> None:
    text = (EXAMPLES / "github.yml").read_text()
    (entry,) = github([JOB])["include"]
    asked = set(re.findall(r"matrix\.([\w-]+)", text))
    assert {"tasks", "extras", "runs-on"} <= asked <= entry.keys()
    jobs = read("github.yml")["jobs"]
    outputs = set(re.findall(r"needs\.plan\.outputs\.(\w+)", text))
    assert outputs == jobs["plan"]["outputs"].keys()
    assert {job["runs-on"] for job in jobs.values() if "strategy" not in job} <= set(
        RUNNERS.values()
    )


def test_a_child_pipeline_extends_what_there_is() -> None:
    assert GITLAB_JOB in read("gitlab-build.yml")
    assert GITLAB_TEMPLATE in (EXAMPLES / "gitlab.yml").read_text()
    asked = set(re.findall(r"\$(EXTRAS|TASKS)", (EXAMPLES / "gitlab-build.yml").read_text()))
    described = gitlab([JOB], JOB.machine.label)
    assert described[JOB.name]["variables"].keys() == asked
    assert described[JOB.name]["stage"] in described["stages"]


def test_jobs_have_no_more_rights_than_they_need() -> None:
    workflow = read("github.yml")
    assert workflow["permissions"] == {}
    secret = {name for name, job in workflow["jobs"].items() if "secrets." in json.dumps(job)}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}
        assert (job.get("environment") == "release") == (name in secret)
    assert secret == {"shared", "rows", "release"}
    assert "secrets." not in json.dumps(workflow["env"])
    for job in workflow["jobs"].values():  # of steps that run what others wrote, none has a secret
        assert "secrets." not in json.dumps(job.get("env", {}))
        assert not any("secrets." in json.dumps(step) for step in job["steps"] if "uses" in step)
    assert "vars." not in json.dumps(workflow)  # pull requests from forks get none
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    uses = {step["uses"].partition("@")[2] for step in steps if "uses" in step}
    assert uses == {"COMMIT"}
    pushing = [step for step in steps if "--push" in step.get("run", "")]
    assert [step["if"] for step in pushing] == ["startsWith(github.ref, 'refs/tags/v')"]


STEPS = {
    "a": Step("A", ["one.txt"]),
    **{name: Step(name.upper(), ["a"], dist=name == "d") for name in ("b", "c", "d")},
}

# stands for .venv/bin/doit: the toy project in the current directory
TOY = f"""#!{sys.executable}
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from tasks import ci_jobs
from tests.tasks.toy import Project
from tests.test_ci_examples import STEPS

ci_jobs.START = 0.0  # as if each action took long
root = Path.cwd()
project = Project(
    root,
    root / "own-cache",
    STEPS,
    lambda: connect(os.environ["OLMILL_REMOTE_CACHE"], Credentials()),
    os.environ.get("OLMILL_REMOTE_CACHE_WRITE") == "1",
)
os.chdir({str(ROOT)!r})
sys.exit(project.doit(*sys.argv[1:]))
"""


class Runner:
    """Runs the jobs of a workflow of GitHub's, each in a directory of its own."""

    def __init__(self, place: Path, workflow: Any, cache: str) -> None:
        self.place, self.workflow, self.cache = place, workflow, cache

    def run(self, name: str, number: int = 0, matrix: Mapping[str, str] | None = None) -> Project:
        """Run a job's shell steps up to what concerns a matrix; returns its project."""
        root = self.place / f"{name}-{number}"
        project = Project(root, root / "own-cache", STEPS)
        (project.source / "one.txt").write_text("1")
        (root / ".venv/bin").mkdir(parents=True)
        (root / DOIT).write_text(TOY)
        (root / DOIT).chmod(0o755)
        (root / "bootstrap.py").touch()
        job = self.workflow["jobs"][name]
        for step in job["steps"]:
            if "run" not in step or "publish" in step["run"]:
                continue
            given = {**self.workflow["env"], **job.get("env", {}), **step.get("env", {})}
            environment = {
                key: str((matrix or {}).get(found[1], "") if found else value)
                for key, value in given.items()
                for found in [re.fullmatch(r"\$\{\{ matrix\.(\S+) \}\}", value)]
            }
            done = subprocess.run(
                ["/bin/bash", "-e", "-o", "pipefail", "-c", step["run"]],
                cwd=root,
                env={
                    **os.environ,
                    **environment,
                    "OLMILL_REMOTE_CACHE": self.cache,
                    "GITHUB_OUTPUT": str(root / "output"),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        return project

    def outputs(self, project: Project) -> dict[str, Any]:
        lines = (project.root / "output").read_text().splitlines()
        return {name: json.loads(value) for name, _, value in (x.partition("=") for x in lines)}


def test_the_workflow_builds_each_node_once_and_the_release_none(tmp_path: Path) -> None:
    """Each job has a directory and a local cache of its own; nginx is the shared one."""
    with nginx(tmp_path / "nginx") as server:
        runner = Runner(tmp_path, read("github.yml"), server.address)
        planned = runner.outputs(runner.run("plan"))
        executed: list[str] = []
        for wave, count in (("shared", 1), ("rows", 3)):
            entries = planned[wave]["include"]
            assert len(entries) == count
            for number, entry in enumerate(entries):
                executed += runner.run(wave, number, entry).executed()
        assert sorted(executed) == sorted(STEPS)
        release = runner.run("release")
        assert release.executed() == set()
        assert release.output("d").read_text() == "DA1"
        again = runner.outputs(runner.run("plan", 2))
        assert again == {"shared": {"include": []}, "rows": {"include": []}}
        assert runner.run("check").executed() == set()
