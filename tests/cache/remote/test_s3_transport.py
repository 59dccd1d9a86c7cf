"""An S3 bucket, as moto serves it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import S3Store

from cache.digest import of_bytes
from cache.errors import RemoteUnavailable
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.testing import StoreContract
from tests.cache.servers import Server, moto

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest
    from cache.store import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


class TestBucket(StoreContract):
    finds_damage_unread = False
    replaces_results = False

    @pytest.fixture
    def store(self, server: Server) -> Iterator[Store]:
        server.clear()
        self.bucket = S3Store("a-bucket", prefix="some/prefix")
        with contextlib.closing(connect(server.address, Credentials())) as store:
            yield store

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        del store
        self._put(f"cas/{digest.hash}", data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        del store
        self._put(f"ac/{key.hash}", data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        del store
        obstore.copy(self.bucket, f"ac/{key.hash}", f"ac/{other.hash}")

    def _put(self, path: str, data: bytes | None) -> None:
        if data is None:
            obstore.delete(self.bucket, path)
        else:
            obstore.put(self.bucket, path, data)


def test_a_bucket_that_is_not_there_is_one_message(server: Server) -> None:
    assert server
    with contextlib.closing(connect("s3://no-such-bucket", Credentials())) as store:
        with pytest.raises(RemoteUnavailable, match="s3://no-such-bucket") as caught:
            store.write(b"x")
        assert caught.value.hint
        with pytest.raises(RemoteUnavailable, match="s3://no-such-bucket: no such bucket"):
            store.get_result(of_bytes(b"key"))
