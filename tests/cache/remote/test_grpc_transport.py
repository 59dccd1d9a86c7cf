"""The Remote Execution API, as a real buildbox-casd serves it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cache import digest as digests
from cache import parallel
from cache.action import ActionResult
from cache.errors import CorruptBlob, Interrupted, RemoteUnavailable
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.testing import StoreContract
from tests.cache.servers import Server, casd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest
    from cache.store import Store


BLOB = digests.of_bytes(b"blob")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with casd(tmp_path_factory.mktemp("casd")) as server:
        yield server


class TestCasd(StoreContract):
    finds_damage_unread = False

    @pytest.fixture
    def store(self, server: Server) -> Iterator[Store]:
        server.clear()
        self.files = server.files
        with contextlib.closing(connect(server.address, Credentials())) as store:
            yield store

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        del store
        if data is not None and len(data) > digest.size:
            pytest.skip("the server gives no more bytes than the digest says")
        _overwrite(_place(self.files / "cas", digest), data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        del store
        _overwrite(_place(self.files / "actioncache", key), data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        del store
        target = _place(self.files / "actioncache", other)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(_place(self.files / "actioncache", key), target)

    def test_a_damaged_blob_is_healed_by_writing_it(self, store: Store) -> None:
        """The server keeps what it has; it is not served all the same."""
        digest = store.write(b"precious")
        self.damage_blob(store, digest, b"Precious")
        store.write(b"precious")
        with pytest.raises(CorruptBlob):
            store.read(digest)


def test_an_instance_is_part_of_the_address(server: Server) -> None:
    """This server has but one, without a name, and says so."""
    with contextlib.closing(connect(f"{server.address}/some/instance", Credentials())) as store:
        with pytest.raises(RemoteUnavailable, match="invalid argument") as caught:
            store.write(b"x")
        assert caught.value.hint


def _actions(server: Server, key: Digest) -> Path:
    return _place(server.files / "actioncache", key)


def _place(directory: Path, digest: Digest) -> Path:
    return directory / "objects" / digest.hash[:2] / digest.hash[2:]


def _overwrite(path: Path, data: bytes | None) -> None:
    path.unlink()
    if data is not None:
        path.write_bytes(data)


def test_one_blob_from_many_threads(server: Server) -> None:
    server.clear()
    data = bytes(range(256)) * 10_000
    with contextlib.closing(connect(server.address, Credentials())) as store:
        assert len(set(parallel.each(store.write, [data] * 8))) == 1
        assert store.read(digests.of_bytes(data)) == data


def test_many_results_are_looked_up_at_once(server: Server) -> None:
    """More than are under way at a time; absent ones, another's and useless ones among them."""
    server.clear()
    made = {digests.of_bytes(b"key %d" % n): ActionResult({"out": BLOB}) for n in range(150)}
    absent = [digests.of_bytes(b"absent %d" % n) for n in range(150)]
    with contextlib.closing(connect(server.address, Credentials())) as store:
        store.write(b"blob")
        parallel.each(lambda item: store.put_result(*item), list(made.items()))
        first, second, *_ = made
        shutil.copy(_actions(server, first), _actions(server, second))
        refused: list[str] = []
        store.refused = lambda error: refused.append(str(error))
        keys = [key for pair in zip(made, absent, strict=True) for key in pair]
        found = store.get_results([*keys, first])
        assert found == {key: result for key, result in made.items() if key != second}
        (said,) = refused
        assert f"{second}: not sealed for this action" in said


def test_a_server_that_ends_meanwhile_is_asked_again(tmp_path: Path) -> None:
    with casd(tmp_path) as server:
        transport = GrpcTransport(server.address, Credentials())
        key = digests.of_bytes(b"key")
        assert transport.get_entries([key, key]) == {key: None}
    assert transport.get_entries([key] * 200) == {}
    with pytest.raises(Interrupted):
        transport.get_entry(key)
    transport.close()
