"""Many blobs in one message: whatever their sizes, and whatever becomes of one of them."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.digest import Digest, of_bytes
from cache.errors import CacheError, CorruptBlob, MissingBlob
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from tests.cache.reapi_server import ReapiServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 8192
SMALL = {of_bytes(data): data for data in (b"%d" % number for number in range(50))}
LARGE = bytes(range(256)) * 100
ALL = {**SMALL, of_bytes(LARGE): LARGE}
SOME = sorted(SMALL)[7]


@pytest.fixture(scope="module")
def running() -> Iterator[ReapiServer]:
    with serving(ReapiServer(limit=LIMIT)) as server:
        yield server


@pytest.fixture(scope="module")
def open_store(running: ReapiServer) -> Iterator[RemoteStore]:
    with connected(running) as store:
        yield store


@pytest.fixture
def server(running: ReapiServer) -> ReapiServer:
    running.clear()
    running.refuse = lambda _, __: None
    return running


@contextlib.contextmanager
def connected(server: ReapiServer) -> Iterator[RemoteStore]:
    backoff = Backoff(attempts=2, sleep=lambda _: None)
    transport = RetryingTransport(GrpcTransport(server.address, Credentials()), backoff)
    with contextlib.closing(RemoteStore(transport)) as store:
        yield store


@pytest.fixture
def store(server: ReapiServer) -> Iterator[RemoteStore]:
    with connected(server) as store:
        yield store


def downloaded(store: RemoteStore, digests: set[Digest]) -> dict[Digest, bytes]:
    """All of some blobs, however they come."""
    found = dict(store.download_many(digests))
    return found | {digest: store.read(digest) for digest in digests - found.keys()}


sizes = st.one_of(st.integers(0, 40), st.integers(LIMIT - 2100, LIMIT + 50), st.integers(0, 20_000))


@given(st.lists(sizes, max_size=30), st.integers(0, 255))
def test_any_mixture_of_sizes_goes_through(
    running: ReapiServer, open_store: RemoteStore, sizes: list[int], seed: int
) -> None:
    running.clear()
    contents = [bytes((seed + number & 255,)) * size for number, size in enumerate(sizes)]
    blobs = {of_bytes(content): content for content in contents}
    stored: list[Digest] = []
    open_store.upload_many(blobs, stored.append)
    assert running.blobs == blobs
    assert sorted(stored) == sorted(blobs)
    assert downloaded(open_store, {*blobs}) == blobs


def test_small_ones_share_messages(server: ReapiServer, store: RemoteStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)
    store.upload_many({**SMALL, of_bytes(LARGE): file})
    assert server.blobs == ALL
    assert dict(store.download_many(ALL.keys())) == SMALL
    assert server.asked["BatchUpdateBlobs"] == server.asked["BatchReadBlobs"] == 9
    assert (server.asked["Write"], server.asked["Read"]) == (1, 0)


def test_without_a_declared_limit_a_message_has_4_mib() -> None:
    blobs = {of_bytes(data): data for data in (bytes((n,)) * 1_000_000 for n in range(9))}
    with serving(ReapiServer()) as server, connected(server) as store:
        store.upload_many(blobs)
        assert dict(store.download_many(blobs.keys())) == blobs
        assert server.asked["BatchUpdateBlobs"] == server.asked["BatchReadBlobs"] == 3


@pytest.mark.parametrize("code", ["NOT_FOUND", "UNAVAILABLE", "PERMISSION_DENIED", "DATA_LOSS"])
def test_one_that_is_not_given_keeps_no_other_back(
    server: ReapiServer, store: RemoteStore, code: str
) -> None:
    server.blobs |= SMALL
    server.refuse = lambda _, digest: code if digest == SOME else None
    assert dict(store.download_many(SMALL.keys())) == {
        digest: data for digest, data in SMALL.items() if digest != SOME
    }
    with pytest.raises(MissingBlob if code == "NOT_FOUND" else CacheError):
        store.read(SOME)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"])
def test_one_that_is_not_taken_is_an_error_and_the_others_are_stored(
    server: ReapiServer, store: RemoteStore, code: str
) -> None:
    server.refuse = lambda _, digest: code if digest == SOME else None
    with pytest.raises(CacheError, match=SOME.hash):
        store.upload_many(SMALL)
    assert {*SMALL} - {*server.blobs} == {SOME}


def test_one_that_is_refused_once_is_tried_again(server: ReapiServer, store: RemoteStore) -> None:
    refusals = iter(["UNAVAILABLE"])
    server.refuse = lambda _, digest: next(refusals, None) if digest == SOME else None
    store.upload_many(SMALL)
    assert server.blobs == SMALL


@pytest.mark.parametrize("method", ["BatchReadBlobs", "BatchUpdateBlobs"])
def test_a_message_that_does_not_arrive_is_sent_blob_by_blob(
    server: ReapiServer, store: RemoteStore, method: str
) -> None:
    calls = iter([None, None, "RESOURCE_EXHAUSTED"])
    server.refuse = lambda name, digest: (
        next(calls, None) if name == method and digest is None else None
    )
    store.upload_many(SMALL)
    assert server.blobs == SMALL
    assert downloaded(store, {*SMALL}) == SMALL


@pytest.mark.parametrize("damage", [b"", b"other", b"7 and more"])
def test_no_damaged_one_is_given(server: ReapiServer, store: RemoteStore, damage: bytes) -> None:
    server.blobs |= SMALL
    server.blobs[SOME] = damage
    assert SOME not in dict(store.download_many(SMALL.keys()))
    with pytest.raises(CorruptBlob):
        store.read(SOME)
    assert store.missing([SOME]) == {SOME}
    store.upload_many({SOME: SMALL[SOME]})
    assert dict(store.download_many([SOME])) == {SOME: SMALL[SOME]}


@pytest.mark.parametrize("content", [b"", b"other", b"7 and more"])
def test_a_file_that_holds_something_else_is_not_sent(
    server: ReapiServer, store: RemoteStore, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(CorruptBlob):
        store.upload_many({SOME: file})
    with pytest.raises(CorruptBlob):
        store.upload(SOME, io.BytesIO(content))
    assert not server.blobs


def test_nothing_is_lost_when_the_server_is_gone() -> None:
    with serving(ReapiServer()) as server:
        pass
    with connected(server) as store:
        assert not list(store.download_many(SMALL.keys()))
        with pytest.raises(CacheError):
            store.upload_many(SMALL)
