from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from cache import digest as digests
from cache.local.stat_cache import StatCache
from cache.local.store import LocalStore
from tests.cache.local_stores import leftovers
from tests.cache.stat_caches import Reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[StatCache]:
    cache = StatCache(tmp_path / "home" / "stat.sqlite")
    yield cache
    cache.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "cache")
    yield store
    assert not leftovers(store.root)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute pass between a file's last change and any look at it."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which hashing any file is a failure."""

    def refuse(*_: Any) -> Any:
        raise AssertionError

    def arm() -> None:
        for name in ("of_descriptor", "xxh3_of_descriptor"):
            monkeypatch.setattr(digests, name, refuse)
        monkeypatch.setattr("cache.local.copying.copy", refuse)

    return arm
