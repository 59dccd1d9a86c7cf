"""Blobs as zstd over the Remote Execution API: what is offered, worth it and interrupted."""

from __future__ import annotations

import contextlib
import io
import random
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cache.digest import CHUNK, of_bytes
from cache.errors import CorruptBlob, RemoteUnavailable
from cache.protocol import bytestream_pb2 as bytestream
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from cache.testing import StoreContract
from tests.cache.reapi_server import ReapiServer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cache.digest import Digest
    from cache.store import Store

CHANCE = random.Random(2)  # noqa: S311  no secret
TEXT = b"".join(b"%d," % number for number in range(1_000_000))
NOISE = CHANCE.randbytes(3 << 20)
HALF = b"".join(
    bytes(1024) + CHANCE.randbytes(1024) for _ in range(5 << 10)
)  # 10 MiB, of which 5 go
SMALL = b"small and small and small and small and small" * 10


@pytest.fixture(scope="module")
def running() -> Iterator[ReapiServer]:
    with serving(ReapiServer(zstd=True)) as server:
        yield server


@pytest.fixture
def server(running: ReapiServer) -> ReapiServer:
    running.clear()
    running.committed = lambda sent, _: sent
    return running


@contextlib.contextmanager
def connected(server: ReapiServer, *, compression: bool = True) -> Iterator[RemoteStore]:
    transport = GrpcTransport(f"{server.address}/i", Credentials(), compression=compression)
    backoff = Backoff(attempts=3, sleep=lambda _: None)
    with contextlib.closing(RemoteStore(RetryingTransport(transport, backoff))) as store:
        yield store


@pytest.fixture
def store(server: ReapiServer) -> Iterator[RemoteStore]:
    with connected(server) as store:
        yield store


class TestZstd(StoreContract):
    finds_damage_unread = False

    @pytest.fixture
    def store(self, server: ReapiServer) -> Iterator[Store]:
        self.server = server
        with contextlib.closing(connect(server.address, Credentials())) as store:
            yield store

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        del store
        if data is None:
            del self.server.blobs[digest]
        else:
            self.server.blobs[digest] = data

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        del store
        if data is None:
            del self.server.results[key]
        else:
            self.server.results[key] = data

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        del store
        self.server.results[other] = self.server.results[key]


def moved(server: ReapiServer, store: RemoteStore, data: bytes) -> tuple[int, int]:
    """The bytes that a blob is on its way up and down."""
    digest = store.write(data)
    assert server.blobs == {digest: data}
    assert store.read(digest) == data
    up, down = server.sizes
    return up, down


@pytest.mark.parametrize("data", [TEXT, SMALL], ids=["stream", "message"])
def test_what_gains_is_compressed(server: ReapiServer, store: RemoteStore, data: bytes) -> None:
    assert max(moved(server, store, data)) < len(data) / 2


def test_the_names_of_streams(server: ReapiServer, store: RemoteStore) -> None:
    digest = of_bytes(TEXT)
    moved(server, store, TEXT)
    up, down = server.resources
    instance, uploads, _, *rest = up.split("/")
    assert (instance, uploads) == ("i", "uploads")
    assert rest == ["compressed-blobs", "zstd", digest.hash, str(digest.size)]
    assert down == f"i/compressed-blobs/zstd/{digest}"


@pytest.mark.parametrize("data", [NOISE, NOISE[:1000]], ids=["stream", "message"])
def test_what_does_not_gain_goes_as_it_is(
    server: ReapiServer, store: RemoteStore, data: bytes
) -> None:
    up, _ = moved(server, store, data)
    assert up == len(data)


def test_what_is_not_offered_is_not_used() -> None:
    with serving(ReapiServer()) as plain, connected(plain) as store:
        assert moved(plain, store, TEXT) == (len(TEXT), len(TEXT))
        plain.clear()
        assert moved(plain, store, SMALL) == (len(SMALL), len(SMALL))


def test_what_is_switched_off_is_not_used(server: ReapiServer) -> None:
    with connected(server, compression=False) as store:
        assert moved(server, store, TEXT) == (len(TEXT), len(TEXT))
        server.clear()
        assert moved(server, store, SMALL) == (len(SMALL), len(SMALL))


@pytest.mark.parametrize(
    "committed",
    [lambda sent, _: sent, lambda _, size: size, lambda *_: -1],
    ids=["sent", "size", "had"],
)
def test_what_servers_say_at_the_end(
    server: ReapiServer, store: RemoteStore, committed: Callable[[int, int], int]
) -> None:
    server.committed = committed
    assert store.read(store.write(TEXT)) == TEXT


def test_a_blob_that_somebody_else_had_complete(server: ReapiServer, store: RemoteStore) -> None:
    """The answer comes before all is sent."""

    def early(_requests: Iterator[bytes], _context: object) -> bytestream.WriteResponse:
        return bytestream.WriteResponse(committed_size=-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Write", early)
        assert store.write(HALF) == of_bytes(HALF)


def test_an_upload_goes_on_where_it_stopped(server: ReapiServer, store: RemoteStore) -> None:
    server.cuts = [1, 1]
    digest = store.write(HALF)
    assert server.blobs == {digest: HALF}
    assert len(set(server.resources)) == 1
    assert len(server.resources) == 3
    assert server.sizes[0] < 3 * CHUNK  # the rest of five


def test_an_upload_that_the_server_has_lost_begins_anew(
    server: ReapiServer, store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        server,
        "QueryWriteStatus",
        lambda *_: bytestream.QueryWriteStatusResponse(committed_size=12345),
    )
    server.cuts = [2]
    digest = store.write(HALF)
    assert server.blobs == {digest: HALF}
    assert len(set(server.resources)) == 2


def test_a_download_goes_on_where_it_stopped(server: ReapiServer, store: RemoteStore) -> None:
    server.blobs[of_bytes(HALF)] = HALF
    server.cuts = [2, 2]
    assert store.read(of_bytes(HALF)) == HALF
    first, second, third = server.sizes
    assert first > second > third


EVIL: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda data: NOISE[: len(data)],
    "plain": lambda data: data,
    "more": lambda data: zstandard.compress(data + b"x"),
    "another frame": lambda data: zstandard.compress(data) + zstandard.compress(b"x"),
    "bytes behind": lambda data: zstandard.compress(data) + b"x" * 20,
    "another content": lambda data: zstandard.compress(data[:-1] + b"?"),
    "bomb": lambda _: zstandard.compress(bytes(256 << 20)),
    "less": lambda data: zstandard.compress(data[:-1]),
    "cut": lambda data: zstandard.compress(data)[:-5],
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("data", [TEXT, SMALL], ids=["stream", "message"])
def test_zstd_that_is_no_blob(
    server: ReapiServer,
    store: RemoteStore,
    monkeypatch: pytest.MonkeyPatch,
    evil: str,
    data: bytes,
) -> None:
    digest = of_bytes(data)
    answer = EVIL[evil](data)
    message = reapi.BatchReadBlobsResponse()
    message.responses.add(
        digest={"hash": digest.hash, "size_bytes": digest.size}, data=answer, compressor=1
    )
    parts = [answer[start : start + CHUNK] for start in range(0, len(answer), CHUNK)]
    answers = [bytestream.ReadResponse(data=part).SerializeToString() for part in parts]
    monkeypatch.setattr(server, "BatchReadBlobs", lambda *_: message)
    monkeypatch.setattr(server, "Read", lambda *_: iter(answers))
    assert not dict(store.download_many([digest]))
    into = io.BytesIO()
    with pytest.raises((CorruptBlob, RemoteUnavailable)):
        store.download(digest, into)
    assert len(into.getvalue()) <= digest.size


@pytest.mark.parametrize("compressor", [1, 2, 99])
def test_a_compression_that_nobody_asked_for(
    server: ReapiServer, monkeypatch: pytest.MonkeyPatch, compressor: int
) -> None:
    digest = of_bytes(SMALL)
    message = reapi.BatchReadBlobsResponse()
    message.responses.add(
        digest={"hash": digest.hash, "size_bytes": digest.size},
        data=zstandard.compress(SMALL),
        compressor=compressor,
    )
    monkeypatch.setattr(server, "BatchReadBlobs", lambda *_: message)
    with (
        connected(server, compression=False) as store,
        pytest.raises(CorruptBlob, match="not asked"),
    ):
        store.read(digest)


@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=20), st.integers(0, 255))
def test_any_mixture_goes_through(
    running: ReapiServer, sizes: list[tuple[int, bool]], seed: int
) -> None:
    running.clear()
    contents = [CHANCE.randbytes(size) if noisy else bytes((seed,)) * size for size, noisy in sizes]
    blobs = {of_bytes(content): content for content in contents}
    with connected(running) as store:
        store.upload_many(blobs)
        assert running.blobs == blobs
        assert dict(store.download_many(blobs.keys())) == blobs
