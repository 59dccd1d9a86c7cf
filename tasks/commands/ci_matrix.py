"""`doit ci-matrix`: what is stale, as jobs for a CI system."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from tasks.assess import NOT_CACHED
from tasks.ci_jobs import WAVES, Job, Machine, estimates, jobs
from tasks.commands.node_command import NodeCommand
from tasks.durations import durations
from tasks.errors import BuildError
from tasks.graph import message
from tasks.node import Node, canonical_json
from tasks.run import REQUIRE_REMOTE
from tasks.session import Session

BOTH = "both"
JOBS = 8
MOST_JOBS = 256  # what GitHub allows in one matrix

# GitHub's runner for the kind of machine that plans: a verification runs where it was planned.
RUNNERS: Mapping[tuple[str, str], str] = {
    ("Linux", "x86_64"): "ubuntu-24.04",
    ("Linux", "aarch64"): "ubuntu-24.04-arm",
    ("Darwin", "arm64"): "macos-15",
    ("Windows", "AMD64"): "windows-2025",
}

GITLAB_TEMPLATE = ".gitlab/build.yml"  # defines GITLAB_JOB, which jobs extend
GITLAB_JOB = ".build"


class CiMatrix(NodeCommand):
    """`doit ci-matrix [TASK …]`: what is stale, as jobs for a CI system."""

    name = "ci-matrix"
    doc_purpose = "print what is stale as jobs for GitHub Actions or GitLab"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (
        {
            "name": "jobs",
            "long": "jobs",
            "type": int,
            "default": JOBS,
            "help": "at most so many jobs at a time (default: %(default)s)",
        },
        {
            "name": "wave",
            "long": "wave",
            "type": str,
            "default": BOTH,
            "choices": (
                (BOTH, "of both waves (default)"),
                (WAVES[0], "what several jobs need"),
                (WAVES[1], "the rest, which begin when those of `shared` have ended"),
            ),
            "help": "which jobs",
        },
        {
            "name": "runs_on",
            "long": "runs-on",
            "type": str,
            "default": "",
            "help": "label of the runners (default: GitHub's for a machine such as this one; of GitLab's "
            "jobs none, which leaves them to the template)",
        },
        {
            "name": "form",
            "long": "format",
            "type": str,
            "default": "github",
            "choices": (("github", "a matrix"), ("gitlab", "a child pipeline")),
            "help": "for which CI system (default: %(default)s)",
        },
        REQUIRE_REMOTE,
    )

    def _execute(
        self,
        session: Session,
        jobs: int,
        wave: str,
        runs_on: str,
        form: str,
        require_remote: bool,
        pos_args: list[str],
    ) -> int:
        if not 1 <= jobs <= MOST_JOBS:
            raise InvalidCommand(f"--jobs is {jobs}\nhint: give a number from 1 to {MOST_JOBS}")
        session.workspace.shared.required = require_remote
        label = runs_on or (_runner() if form == "github" else "")
        found = self._jobs(session, jobs, label, pos_args)
        chosen = [job for job in found if wave in (BOTH, job.wave)]
        print(canonical_json(github(chosen) if form == "github" else gitlab(chosen, label)))
        return 0

    def _jobs(self, session: Session, limit: int, label: str, names: list[str]) -> list[Job]:
        decided = self._decided(session, names)
        stale = [name for name, assessed in decided.items() if assessed.state in NOT_CACHED]
        graph = session.workspace.graph
        for name in stale:
            missing = graph.nodes[name].missing
            if missing is not None:
                raise InvalidCommand(f"{name} has no key without its tools: {missing}")
        seconds = estimates(graph, durations(session, self.dep_manager.backend))
        try:
            return jobs(graph, stale, seconds, lambda node: machine_of(node, label), limit)
        except BuildError as error:
            raise InvalidCommand(message(error)) from None


def machine_of(node: Node, label: str) -> Machine:
    """Return what a node needs to run: tools beyond Python packages come with an extra."""
    extras = []
    if "nvcc" in dict(node.programs):
        extras.append("cuda")
    if any(selection.producer.startswith("tool:") for selection in node.inputs):
        extras.append("verify")
    return Machine(label, tuple(extras))


def github(found: Sequence[Job]) -> dict[str, Any]:
    """Return jobs as a matrix of GitHub Actions."""
    return {
        "include": [
            {
                "name": job.name,
                "wave": job.wave,
                "runs-on": job.machine.label,
                "extras": " ".join(job.machine.extras),
                "tasks": " ".join(job.tasks),
                "seconds": math.ceil(job.seconds),
            }
            for job in found
        ]
    }


def gitlab(found: Sequence[Job], label: str) -> dict[str, Any]:
    """Return jobs as a child pipeline of GitLab, whose jobs extend those of a file of the project.

    label: tag of the runners, empty where the file says it.
    """
    tags = {"tags": [label]} if label else {}
    described = {
        job.name: {
            "extends": GITLAB_JOB,
            "stage": job.wave,
            **tags,
            "variables": {"EXTRAS": " ".join(job.machine.extras), "TASKS": " ".join(job.tasks)},
        }
        for job in found
    }
    # a pipeline without jobs is an error there
    nothing = {"nothing is stale": {"stage": WAVES[-1], **tags, "script": ["true"]}}
    return {"include": [{"local": GITLAB_TEMPLATE}], "stages": list(WAVES)} | (described or nothing)


def _runner() -> str:
    here = (platform.system(), platform.machine())
    if here not in RUNNERS:
        raise InvalidCommand(f"no runner is known for {' '.join(here)}\nhint: give --runs-on LABEL")
    return RUNNERS[here]
