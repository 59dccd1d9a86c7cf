"""Random graphs, edits, failures and parallelism against the pure evaluator: correct and minimal.

Correct: every output equals the definition. Minimal: an action runs exactly if its parameters and
inputs, as contents, were never seen to succeed before (and `--continue` reaches it).
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.tasks.toy import Project, Step, evaluate

NAMES = ("a", "b", "c", "d", "e", "f")
TEXTS = st.sampled_from(["", "x", "y", "xy"])
KEEPS = st.sampled_from([None, None, 0, 1, 2])
FILES = ("one.txt", "two.txt")


class Builds(RuleBasedStateMachine):
    """Edit a project at random, build it, compare with the definition."""

    @initialize(data=st.data())
    def create(self, data: st.DataObject) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="olmill-test-"))
        self.project = Project(self.root / "p", self.root / "cache")
        self.known: set[tuple[object, ...]] = set()
        self.source = dict.fromkeys(FILES, "0")
        for name, text in self.source.items():
            (self.project.source / name).write_text(text)
        for index, name in enumerate(NAMES[: data.draw(st.integers(2, len(NAMES)))]):
            reads = data.draw(
                st.lists(st.sampled_from([*NAMES[:index], *FILES]), max_size=3, unique=True)
            )
            self.project.steps[name] = Step(
                data.draw(TEXTS), reads, data.draw(KEEPS), batch=data.draw(st.booleans())
            )

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def _name(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.project.steps)))

    @rule(data=st.data(), text=TEXTS, keep=KEEPS, fail=st.sampled_from([False, False, False, True]))
    def change_step(self, data: st.DataObject, text: str, keep: int | None, fail: bool) -> None:
        name = self._name(data)
        before = self.project.steps[name]
        self.project.steps[name] = Step(text, before.reads, keep, fail, batch=before.batch)

    @rule(name=st.sampled_from(FILES), text=TEXTS)
    def change_source(self, name: str, text: str) -> None:
        self.source[name] = text
        (self.project.source / name).write_text(text)

    @rule(data=st.data())
    def lose_output(self, data: st.DataObject) -> None:
        self.project.output(self._name(data)).unlink(missing_ok=True)

    @rule(data=st.data())
    def forge_output(self, data: st.DataObject) -> None:
        path = self.project.output(self._name(data))
        if path.exists():
            path.unlink()
            path.write_text("forged")

    @precondition(lambda self: (self.project.root / "build").exists())
    @rule(what=st.sampled_from(["build", "build/receipts", "build/state.sqlite"]))
    def lose_state(self, what: str) -> None:
        path = self.project.root / what
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @rule(parallel=st.sampled_from([[], [], ["-n", "2"], ["-n", "3", "-P", "thread"]]))
    def build(self, parallel: list[str]) -> None:
        expected = evaluate(self.project.steps, self.source)
        runs = {name for name in expected if self._must_run(name, expected)}
        code = self.project.doit("--continue", *parallel)
        assert code == int(None in expected.values())
        # of two steps that do the same, either may be the one that runs
        assert self._preimages(self.project.executed(), expected) == self._preimages(runs, expected)
        found = self.project.contents()
        assert {n: t for n, t in found.items() if expected[n] is not None} == {
            n: t for n, t in expected.items() if t is not None
        }
        self.known |= {
            self._preimage(name, expected) for name in runs if expected[name] is not None
        }

    def _preimages(self, names: set[str], values: dict[str, str | None]) -> list[str]:
        return sorted(repr(self._preimage(name, values)) for name in names)

    def _preimage(self, name: str, values: dict[str, str | None]) -> tuple[object, ...]:
        step = self.project.steps[name]
        inputs = tuple(
            sorted(
                (read, self.source[read] if read in self.source else values[read])
                for read in step.reads
            )
        )
        return (step.text, step.keep, step.fail, step.batch, inputs)

    def _must_run(self, name: str, values: dict[str, str | None]) -> bool:
        reads = self.project.steps[name].reads
        if any(read in values and values[read] is None for read in reads):
            return False
        return self._preimage(name, values) not in self._seen(name, values)

    def _seen(self, name: str, values: dict[str, str | None]) -> set[tuple[object, ...]]:
        """Preimages known before, and those of equal steps that run earlier in this build."""
        twins = list(self.project.steps)
        earlier = {
            self._preimage(other, values)
            for other in twins[: twins.index(name)]
            if values[other] is not None
        }
        return self.known | earlier


Builds.TestCase.settings = settings(
    max_examples=45,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestBuilds = Builds.TestCase
