from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache import digest as digests
from cache.local.stat_cache import StatCache
from tests.cache.stat_caches import LONG_AGO

CONTENTS = st.sampled_from([b"", b"aaaa", b"bbbb", b"longer"])


NAMES = st.sampled_from(["a", "b", "c"])


class StatCacheMachine(RuleBasedStateMachine):
    """Files changed in every way that leaves some of their status as it was, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.files: dict[str, bytes] = {}
        self.cache = StatCache(self.root / "stat.sqlite")

    def path(self, name: str) -> Path:
        return self.root / f"file-{name}"

    @rule(name=NAMES, content=CONTENTS)
    def replace(self, name: str, content: bytes) -> None:
        new = self.root / "new"
        new.write_bytes(content)
        new.replace(self.path(name))
        self.files[name] = content

    @rule(name=NAMES, content=CONTENTS, restore=st.booleans())
    def edit(self, name: str, content: bytes, *, restore: bool) -> None:
        path = self.path(name)
        before = path.stat() if name in self.files else None
        linked = [
            other
            for other in self.files
            if before is not None and self.path(other).stat().st_ino == before.st_ino
        ]
        path.write_bytes(content)
        if restore and before is not None:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        for other in {name, *linked}:
            self.files[other] = content

    @rule(name=NAMES, stamp=st.sampled_from([LONG_AGO, LONG_AGO + 1]))
    def touch(self, name: str, stamp: int) -> None:
        if name in self.files:
            os.utime(self.path(name), ns=(stamp, stamp))

    @rule(name=NAMES, new=NAMES)
    def link(self, name: str, new: str) -> None:
        if name in self.files and new not in self.files:
            digest = self.cache.digest(self.path(name))
            self.path(new).hardlink_to(self.path(name))
            self.cache.record(self.path(new), digest)
            self.files[new] = self.files[name]

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if self.files.pop(name, None) is not None:
            self.path(name).unlink()

    @rule(flush=st.booleans())
    def another_process(self, *, flush: bool) -> None:
        if not flush:
            self.cache._unsaved.clear()
        self.cache.close()
        self.cache = StatCache(self.root / "stat.sqlite")

    @rule()
    def damage(self) -> None:
        self.cache.close()
        database = self.root / "stat.sqlite"
        if database.exists():
            os.truncate(database, database.stat().st_size // 2)

    @rule(name=NAMES, content=CONTENTS)
    def matches(self, name: str, content: bytes) -> None:
        expected = self.files.get(name) == content
        assert self.cache.matches(self.path(name), digests.of_bytes(content)) == expected

    @invariant()
    def knows(self) -> None:
        for name, content in self.files.items():
            digest = digests.of_bytes(content)
            assert self.cache.peek(self.path(name)) in {None, digest}

    @rule()
    def digests(self) -> None:
        for name, content in self.files.items():
            assert self.cache.digest(self.path(name)) == digests.of_bytes(content)

    def teardown(self) -> None:
        self.cache.close()
        shutil.rmtree(self.root)


TestStatCacheMachine = StatCacheMachine.TestCase


TestStatCacheMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
