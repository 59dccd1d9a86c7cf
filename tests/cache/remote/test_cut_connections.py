"""Connections that are cut anywhere in a small exchange: what is there is right, or it is not there."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import CacheError
from cache.memory import MemoryTransport
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.http_transport import HttpTransport
from cache.remote.store import RemoteStore
from cache.trust import Trust
from tests.cache.cutting import Cutter, cutting
from tests.cache.hostile import hostile
from tests.cache.signers import signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cache.remote.transport import Transport

KEY = digests.of_bytes(b"key")
DATA = b"content"
DIGEST = digests.of_bytes(DATA)
RESULT = ActionResult({"outputs/a": DIGEST})
CI = signer("ci")
TRUST = Trust({"ci": CI.public}, CI)
SIDES = ["client", "server"]
EVERYWHERE = "OLMILL_FUZZ" in os.environ


@dataclass(frozen=True)
class World:
    """A proxy before a server, what connects by it, and how the server forgets everything.

    stride: between the places where an exchange is cut; with OLMILL_FUZZ that is every byte.
    """

    cutter: Cutter
    connect: Callable[[int], Transport]
    clear: Callable[[], None]
    stride: int

    def store(self) -> RemoteStore:
        return RemoteStore(self.connect(self.cutter.port), trust=TRUST)


@contextlib.contextmanager
def http() -> Iterator[World]:
    with hostile() as server, cutting(int(server.address.rpartition(":")[2])) as cutter:
        yield World(
            cutter,
            lambda port: HttpTransport(f"http://127.0.0.1:{port}", Credentials()),
            server.files.clear,
            stride=1 if EVERYWHERE else 5,
        )


class Memory(grpc.GenericRpcHandler):
    """A server of the Remote Execution API over a transport in memory, for small blobs."""

    def __init__(self) -> None:
        self.inner = MemoryTransport()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = getattr(self, details.method.rpartition("/")[2])
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            lambda request, context: method(request, context).SerializeToString()
        )
        return handler

    def GetCapabilities(self, _request: bytes, _context: Any) -> Any:  # noqa: N802  (of the API)
        return reapi.ServerCapabilities()

    def FindMissingBlobs(self, request: bytes, _context: Any) -> Any:  # noqa: N802  (of the API)
        asked = reapi.FindMissingBlobsRequest.FromString(request).blob_digests
        missing = self.inner.missing([_digest(one) for one in asked])
        return reapi.FindMissingBlobsResponse(missing_blob_digests=map(_message, missing))

    def BatchReadBlobs(self, request: bytes, _context: Any) -> Any:  # noqa: N802  (of the API)
        (asked,) = reapi.BatchReadBlobsRequest.FromString(request).digests
        data = b"".join(self.inner.receive(_digest(asked), 0))
        return reapi.BatchReadBlobsResponse(responses=[{"digest": asked, "data": data}])

    def BatchUpdateBlobs(self, request: bytes, _context: Any) -> Any:  # noqa: N802  (of the API)
        (one,) = reapi.BatchUpdateBlobsRequest.FromString(request).requests
        self.inner.blobs[_digest(one.digest)] = one.data
        return reapi.BatchUpdateBlobsResponse(responses=[{"digest": one.digest}])

    def GetActionResult(self, request: bytes, context: Any) -> Any:  # noqa: N802  (of the API)
        asked = reapi.GetActionResultRequest.FromString(request).action_digest
        entry = self.inner.get_entry(_digest(asked))
        if entry is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return reapi.ActionResult.FromString(entry or b"")

    def UpdateActionResult(self, request: bytes, _context: Any) -> Any:  # noqa: N802  (of the API)
        asked = reapi.UpdateActionResultRequest.FromString(request)
        self.inner.put_entry(_digest(asked.action_digest), asked.action_result.SerializeToString())
        return asked.action_result


def _digest(message: Any) -> digests.Digest:
    return digests.Digest(message.hash, message.size_bytes)


def _message(digest: digests.Digest) -> Any:
    return reapi.Digest(hash=digest.hash, size_bytes=digest.size)


@contextlib.contextmanager
def rpc() -> Iterator[World]:
    memory = Memory()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[memory])
    upstream = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def clear() -> None:
        memory.inner.blobs.clear()
        memory.inner.results.clear()

    try:
        with cutting(upstream) as cutter:
            yield World(
                cutter,
                lambda port: GrpcTransport(f"grpc://127.0.0.1:{port}", Credentials(), seconds=60),
                clear,
                stride=1 if EVERYWHERE else 97,
            )
    finally:
        server.stop(None).wait()


PROTOCOLS = {"http": http, "grpc": rpc}


def put(store: RemoteStore) -> None:
    store.write(DATA)
    store.put_result(KEY, RESULT)


def get(store: RemoteStore) -> None:
    found = store.get_result(KEY)
    assert found in (None, RESULT)
    if found is not None:
        assert store.read(DIGEST) == DATA


@pytest.fixture(scope="module", params=PROTOCOLS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with PROTOCOLS[request.param]() as running:
        yield running


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("exchange", [get, put])
def test_a_connection_may_be_cut_anywhere(
    world: World, exchange: Callable[[RemoteStore], None], side: str
) -> None:
    world.clear()
    with contextlib.closing(world.store()) as store:
        put(store)
    world.cutter.reset()
    with contextlib.closing(world.store()) as store:
        exchange(store)
    failed = 0
    for left in range(0, world.cutter.passed[side], world.stride):
        if exchange is put:
            world.clear()
        world.cutter.reset(side, left)
        with contextlib.closing(world.store()) as store:
            try:
                exchange(store)
            except CacheError:
                failed += 1
        world.cutter.reset()
        with contextlib.closing(world.store()) as store:
            get(store)
            assert exchange is put or store.get_result(KEY) == RESULT
    assert failed > 5
