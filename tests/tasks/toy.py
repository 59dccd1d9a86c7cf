"""A small project whose actions are quick: for tests of the graph itself.

`concat` writes its text and then its inputs in order of their names; with `keep` it keeps only
so many characters, so that different inputs can give the same output (early cutoff). With `fail`
it fails, with `extra` it writes a second file. Steps of a `batch` may be made in one run, and
`Project.runs` tells how often the action ran. `evaluate` says what every node must contain, without
any of the machinery.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from cache.local.store import LocalStore
from cache.remote.store import RemoteStore
from cache.tiered import TieredStore
from cache.trust import Trust
from tasks.board import Board
from tasks.display.event_log import executed
from tasks.graph import doit_config, doit_tasks, session
from tasks.node import Graph, Node, Selection, Source, canonical_json, graph
from tasks.session import Session

CONCAT = '''
    """Concatenate."""

    from pathlib import Path

    PROGRESS = True


    def run(params, inputs, outputs, progress):
        """Write the text and the inputs."""
        run_batch([(params, outputs)], inputs, progress)


    def run_batch(jobs, inputs, progress):
        """Write the text of each job and the inputs."""
        with Path(__file__).with_name("runs").open("a") as runs:
            runs.write("run\\n")
        for params, outputs in jobs:
            write(params, inputs, outputs)
        progress(100, 100 * len(jobs))


    def write(params, inputs, outputs):
        if params.get("fail"):
            raise RuntimeError("told to fail")
        text = params["text"]
        for path in sorted(inputs.rglob("*")):
            if path.is_file():
                text += path.read_text()
        (outputs / "out.txt").write_text(text[: params.get("keep")] or "-")
        if params.get("extra"):
            (outputs / "extra.log").write_text(text)
'''


@dataclass
class Step:
    """One node of a toy graph."""

    text: str = ""
    reads: Sequence[str] = ()
    keep: int | None = None
    fail: bool = False
    extra: bool = False
    batch: bool = False
    dist: bool = False
    tool: str | None = None  # the version of a program it runs
    missing: str | None = None
    remote: bool = False  # a cluster may run it
    waits: bool = False  # there, for the gate

    def params(self) -> dict[str, object]:
        found: dict[str, object] = {"text": self.text}
        if self.keep is not None:
            found["keep"] = self.keep
        if self.fail:
            found["fail"] = True
        if self.extra:
            found["extra"] = True
        if self.waits:
            found["waits"] = True
        return found


@dataclass
class Project:
    """A directory with toy actions, a source directory, and a store.

    remote: makes the remote store behind it, which `writes` says whether to fill. trust: whose
    results are believed.
    """

    root: Path
    cache: Path
    steps: dict[str, Step] = field(default_factory=dict)
    remote: Callable[[], RemoteStore] | None = None
    writes: bool = False
    trust: Trust = field(default_factory=Trust)
    board: Board = field(default_factory=lambda: Board(()))

    def __post_init__(self) -> None:
        actions = self.root / "toyactions"
        actions.mkdir(parents=True, exist_ok=True)
        (actions / "__init__.py").touch()
        for name in ("concat", "batched"):
            (actions / f"{name}.py").write_text(textwrap.dedent(CONCAT))
        self.source.mkdir(exist_ok=True)

    @property
    def source(self) -> Path:
        return self.root / "source"

    def graph(self) -> Graph:
        nodes = []
        for name, step in self.steps.items():
            inputs = tuple(
                Selection("source:files", (read,), "files")
                if read.endswith(".txt")
                else Selection(f"step:{read}", ("*",), read)
                for read in step.reads
            )
            params = canonical_json(step.params())
            module = "distant" if step.remote else "batched" if step.batch else "concat"
            action = f"toyactions.{module}"
            place = "dist" if step.dist else f"build/step/{name}"
            tools = () if step.tool is None else (("program", step.tool),)
            nodes.append(
                Node(
                    f"step:{name}",
                    action,
                    params,
                    inputs,
                    place,
                    step.batch,
                    programs=tools,
                    missing=step.missing,
                    remote=step.remote,
                )
            )
        return graph(nodes, [Source("source:files", self.source, ("*.txt",))])

    def session(self) -> Session:
        """Open the build as it is now."""
        local = LocalStore(self.cache)
        store = TieredStore(local, self.remote, writes=self.writes, trust=self.trust)
        return session(self.root, self.graph(), store, code_root=self.root)

    def doit(self, *arguments: str) -> int:
        """Run doit in this process; returns its exit code."""
        current = self.session()
        namespace = {
            "DOIT_CONFIG": doit_config(current),
            "task_steps": lambda: doit_tasks(current),
        }
        for module in [name for name in sys.modules if name.startswith("toyactions")]:
            del sys.modules[module]
        sys.path.insert(0, str(self.root))
        try:
            return DoitMain(ModuleTaskLoader(namespace)).run(list(arguments)) or 0
        finally:
            self.board = current.board
            sys.path.remove(str(self.root))

    def executed(self) -> set[str]:
        """Steps whose action ran in the last run."""
        return {name.removeprefix("step:") for name in executed(self.root)}

    def runs(self) -> int:
        """How often the action has run since the last time this was asked."""
        path = self.root / "toyactions" / "runs"
        count = len(path.read_text().splitlines()) if path.exists() else 0
        path.unlink(missing_ok=True)
        return count

    def output(self, name: str) -> Path:
        place = "dist" if self.steps[name].dist else f"build/step/{name}"
        return self.root / place / "out.txt"

    def contents(self) -> dict[str, str | None]:
        """What each step's output holds now, None where there is none."""
        return {
            name: self.output(name).read_text() if self.output(name).exists() else None
            for name in self.steps
        }


def evaluate(steps: Mapping[str, Step], source: Mapping[str, str]) -> dict[str, str | None]:
    """Contents of every step by the definition; None for what fails or needs what fails."""
    found: dict[str, str | None] = {}

    def value(name: str) -> str | None:
        if name not in found:
            step = steps[name]
            parts: dict[str, str | None] = {}
            for read in step.reads:
                if read.endswith(".txt"):
                    parts[f"files/{read}"] = source.get(read, "")
                else:
                    parts[f"{read}/out.txt"] = value(read)
            if step.fail or None in parts.values():
                found[name] = None
            else:
                text = step.text + "".join(str(parts[place]) for place in sorted(parts))
                found[name] = text[: step.keep] or "-"
        return found[name]

    return {name: value(name) for name in steps}
