"""Builds, collections and crashes in any order: what a running build needs is never lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache import digest as digests
from cache.action import ActionResult
from cache.faults import deadly_disk
from cache.local.collection import Kept, Limits, collect
from cache.local.layout import Layout
from cache.local.store import LocalStore, guarded
from cache.local.survey import survey
from tests.cache.local_stores import FORK, blob_file, memory_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest

CONTENTS = [b"", b"a", b"b" * 100, b"c" * 300, b"d" * 1000]
DIGESTS = [digests.of_bytes(content) for content in CONTENTS]
KEYS = [digests.of_bytes(b"action %d" % number) for number in range(4)]

SOME = st.sets(st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=3)
KEY = st.integers(0, len(KEYS) - 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), SOME),
    st.tuples(st.just("ask"), SOME),
    *[st.tuples(st.just("find"), KEY)] * 2,
    *[st.tuples(st.just("put"), KEY, SOME)] * 2,
    st.tuples(st.just("receipt")),
    st.tuples(st.just("end")),
    st.tuples(st.just("crash")),
)
TURNS = st.tuples(st.integers(0, 2), STEPS)  # a build, and what it does
LIMITS = st.builds(
    Limits, st.sampled_from([0, None, 400, 900, 3000]), st.sampled_from([None, 60.0])
)
LATER_NS = st.sampled_from([0, 3600 * 10**9])


@dataclass
class Build:
    """A build that runs: what it was told is there."""

    store: LocalStore
    project: Path
    lease: contextlib.ExitStack
    blobs: set[Digest] = field(default_factory=set)
    results: set[Digest] = field(default_factory=set)


class CollectionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=memory_directory()))
        self.root = self.place / "cache"
        self.builds: list[Build] = []
        self.dead: list[Build] = []
        self.last: dict[Digest, ActionResult] = {}
        self.receipts: dict[Path, set[Digest]] = {}
        self.begin(0)

    @rule(number=st.integers(0, 2))
    def begin(self, number: int) -> None:
        """Begin a build of a project."""
        project = self.place / f"project-{number}"
        project.mkdir(exist_ok=True)
        store = LocalStore(self.root)
        lease = contextlib.ExitStack()
        lease.enter_context(store.lease())
        store.register(project)
        self.builds.append(Build(store, project, lease))
        self.builds[-1].blobs |= self.receipts.get(project, set())

    @rule(turns=st.lists(TURNS, min_size=1, max_size=6))
    def go_on(self, turns: list[tuple[int, tuple[object, ...]]]) -> None:
        """Let builds do something; one begins where none runs."""
        for number, (name, *arguments) in turns:
            if not self.builds:
                self.begin(number)
            getattr(self, f"_{name}")(self.builds[number % len(self.builds)], *arguments)

    @rule(
        limits=LIMITS,
        later_ns=LATER_NS,
        meanwhile=st.lists(TURNS, max_size=8),
    )
    def collect(
        self, limits: Limits, later_ns: int, meanwhile: list[tuple[int, tuple[object, ...]]]
    ) -> None:
        """Collect; whenever builds may go on, one of them does something."""
        now_ns = time.time_ns() + later_ns
        alone = guarded.gate
        turns = iter(meanwhile)

        @contextlib.contextmanager
        def gate(path: str, *, alone: bool = False, inner=alone) -> Iterator[None]:  # type: ignore[no-untyped-def]  # noqa: ANN001
            with inner(path, alone=alone):
                yield
            if alone and (turn := next(turns, None)):
                self.go_on([turn])
                self.nothing_is_lost()

        with patch("cache.local.guarded.gate", gate), patch("cache.local.collection._PART", 1):
            gone = collect(self.root, self.needs, limits, now_ns)
        assert not {path for path in gone.corrupt if os.path.lexists(path)}
        if not meanwhile:
            self.is_minimal(limits, now_ns)

    def is_minimal(self, limits: Limits, now_ns: int) -> None:
        left = survey(self.root)
        kept = Kept(Layout(str(self.root)), self.needs).hashes()
        used = {digest for result in left.results.values() for digest in result.outputs or ()}
        assert all(digest in used or digest.hash in kept for digest in left.blobs)
        spare = [
            result
            for name, result in left.results.items()
            if name not in kept and not all(d.hash in kept for d in result.outputs or ())
        ]
        if spare:
            assert limits.size is None or left.size <= limits.size
            oldest = min(result.used_ns for result in spare)
            assert limits.age is None or oldest >= now_ns - limits.age * 1e9

    @rule(project=st.integers(0, 2))
    def forget_a_project(self, project: int) -> None:
        """A project that nobody builds is removed."""
        place = self.place / f"project-{project}"
        if all(build.project != place for build in self.builds):
            self.receipts.pop(place, None)
            shutil.rmtree(place, ignore_errors=True)

    @rule(limits=LIMITS, nth=st.integers(0, 40))
    def collector_dies(self, limits: Limits, nth: int) -> None:
        """A collection is killed before one of its system calls, or ends."""

        def die() -> None:
            with deadly_disk(nth):
                collect(self.root, self.needs, limits, time.time_ns())

        child = FORK.Process(target=die)
        child.start()
        child.join()

    @rule(limits=LIMITS)
    def dry_run(self, limits: Limits) -> None:
        """Look only."""
        before = survey(self.root)
        told = collect(self.root, self.needs, limits, time.time_ns(), dry_run=True)
        assert survey(self.root) == before
        gone = collect(self.root, self.needs, limits, time.time_ns())
        assert gone == told

    @invariant()
    def nothing_is_lost(self) -> None:
        """All that builds were told, and that receipts of projects name, is there."""
        other = LocalStore(self.root)
        for build in self.builds:
            for digest in build.blobs:
                assert blob_file(self.root, digest).exists()
            for key in build.results:
                assert other.get_result(key) == self.last[key]
        for digests_of in self.receipts.values():
            for digest in digests_of:
                assert blob_file(self.root, digest).exists()
        for key in KEYS:
            assert other.get_result(key) in (None, self.last.get(key))

    def needs(self, project: Path) -> set[str]:
        return {digest.hash for digest in self.receipts.get(project, ())}

    def _write(self, build: Build, some: set[int]) -> None:
        for number in some:
            with build.store.scratch() as scratch:
                (scratch / "made").write_bytes(CONTENTS[number])
                build.blobs.add(build.store.put_file(scratch / "made", consume=number % 2 == 0))

    def _ask(self, build: Build, some: set[int]) -> None:
        asked = {DIGESTS[number] for number in some}
        build.blobs |= asked - build.store.missing(asked)

    def _find(self, build: Build, number: int) -> None:
        result = build.store.get_result(KEYS[number])
        if result is not None:
            assert result == self.last[KEYS[number]]
            build.results.add(KEYS[number])
            build.blobs |= set(result.outputs.values())

    def _put(self, build: Build, number: int, some: set[int]) -> None:
        self._write(build, some)
        result = ActionResult({str(one): DIGESTS[one] for one in some})
        build.store.put_result(KEYS[number], result)
        build.results.add(KEYS[number])
        self.last[KEYS[number]] = result

    def _receipt(self, build: Build) -> None:
        self.receipts[build.project] = set(sorted(build.blobs)[:2])

    def _end(self, build: Build) -> None:
        build.lease.close()
        self.builds.remove(build)

    def _crash(self, build: Build) -> None:
        """End a lease as the system does when a process dies, and do nothing else."""
        assert build.store._lease._file is not None
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, build.store._lease._file)
        os.close(nothing)
        self.builds.remove(build)
        self.dead.append(build)

    def teardown(self) -> None:
        for build in (*self.builds, *self.dead):
            build.lease.close()
        shutil.rmtree(self.place)


TestCollectionMachine = CollectionMachine.TestCase
TestCollectionMachine.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
