from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from cache.memory import MemoryStore
from cache.testing import StoreContract, StoreMachine

if TYPE_CHECKING:
    from cache.digest import Digest
    from cache.store import Store


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class MemoryMachine(StoreMachine):
    def open_store(self) -> MemoryStore:
        self.memory = getattr(self, "memory", None) or MemoryStore()
        return self.memory

    def damage_blob(self, digest: Digest, data: bytes | None) -> bool:
        self.memory.blobs[digest] = b"" if data is None else data
        if data is None:
            del self.memory.blobs[digest]
        return True

    def damage_result(self, key: Digest, data: bytes | None) -> bool:
        self.memory.results[key] = b"" if data is None else data
        return True


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
