"""The local store: the contract, and what only files can do."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from cache import digest as digests
from cache.local import LocalStore
from cache.testing import StoreContract, StoreMachine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest
    from cache.store import Store

KEY = digests.of_bytes(b"key")


def blob_file(root: Path, digest: Digest) -> Path:
    return root / "v1" / "cas" / digest.hash[:2] / digest.hash


def result_file(root: Path, key: Digest) -> Path:
    return root / "v1" / "ac" / key.hash[:2] / key.hash


def overwrite(path: Path, data: bytes | None) -> None:
    """Change a file in place, whatever its mode, or remove it."""
    if data is None:
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(data)


def leftovers(root: Path) -> list[str]:
    return [
        str(path.relative_to(root))
        for name in ("tmp", "locks")
        for path in (root / "v1" / name).rglob("*")
    ]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = LocalStore(tmp_path / "cache")
        yield store
        assert not leftovers(store.root)

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        assert isinstance(store, LocalStore)
        overwrite(blob_file(store.root, digest), data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        assert isinstance(store, LocalStore)
        overwrite(result_file(store.root, key), data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        assert isinstance(store, LocalStore)
        target = result_file(store.root, other)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(result_file(store.root, key), target)


class LocalMachine(StoreMachine):
    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        super().__init__()

    def open_store(self) -> Store:
        return LocalStore(self.root)

    def damage_blob(self, digest: Digest, data: bytes | None) -> bool:
        overwrite(blob_file(self.root, digest), data)
        return True

    def damage_result(self, key: Digest, data: bytes | None) -> bool:
        overwrite(result_file(self.root, key), data)
        return True

    def teardown(self) -> None:
        left = leftovers(self.root)
        shutil.rmtree(self.root)
        assert not left


TestLocalMachine = LocalMachine.TestCase
TestLocalMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
