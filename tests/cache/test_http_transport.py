"""Bazel's HTTP cache, as a real nginx serves it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cache.connect import connect
from cache.credentials import Credentials
from cache.testing import StoreContract
from tests.cache.servers import Server, nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest
    from cache.store import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server


class TestNginx(StoreContract):
    finds_damage_unread = False

    @pytest.fixture
    def store(self, server: Server) -> Iterator[Store]:
        server.clear()
        self.files = server.files
        with contextlib.closing(connect(server.address, Credentials())) as store:
            yield store

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        del store
        _overwrite(self.files / "cas" / digest.hash, data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        del store
        _overwrite(self.files / "ac" / key.hash, data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        del store
        shutil.copy(self.files / "ac" / key.hash, self.files / "ac" / other.hash)


def _overwrite(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
