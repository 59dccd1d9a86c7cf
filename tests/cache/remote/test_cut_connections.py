"""Connections that are cut anywhere in a small exchange: what is there is right, or it is not there."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import CacheError
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.http_transport import HttpTransport
from cache.remote.store import RemoteStore
from cache.trust import Trust
from tests.cache.cutting import Cutter, cutting
from tests.cache.hostile import hostile
from tests.cache.reapi_server import ReapiServer, serving
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


@contextlib.contextmanager
def rpc() -> Iterator[World]:
    with serving(ReapiServer()) as server, cutting(server.port) as cutter:
        yield World(
            cutter,
            lambda port: GrpcTransport(f"grpc://127.0.0.1:{port}", Credentials(), seconds=60),
            server.clear,
            stride=1 if EVERYWHERE else 97,
        )


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
