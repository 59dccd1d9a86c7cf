from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cache.memory import MemoryStore
from cache.testing import StoreContract, StoreMachine

if TYPE_CHECKING:
    from cache.digest import Digest
    from cache.store import Store


def put(entries: dict[Digest, bytes], key: Digest, data: bytes | None) -> None:
    if data is None:
        del entries[key]
    else:
        entries[key] = data


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        assert isinstance(store, MemoryStore)
        put(store.blobs, digest, data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        assert isinstance(store, MemoryStore)
        put(store.results, key, data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        assert isinstance(store, MemoryStore)
        store.results[other] = store.results[key]


class MemoryMachine(StoreMachine):
    """The model against itself, which shows that the machine can run."""

    def open_store(self) -> Store:
        return MemoryStore() if not hasattr(self, "store") else self.store


TestMemoryMachine = MemoryMachine.TestCase
