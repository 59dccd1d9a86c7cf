"""Whatever method of a server refuses or answers garbage: a build goes on, and is told in one line."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from cache import digest as digests
from cache import sealing
from cache.action import ActionResult
from cache.local.store import LocalStore
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from cache.tiered import TieredStore
from tests.cache.reapi_server import CODES, ReapiServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY, OTHER_KEY = digests.of_bytes(b"key"), digests.of_bytes(b"other key")
SMALL, LARGE = b"small", bytes(range(256)) * 5000
HELD = ActionResult({"a": digests.of_bytes(SMALL), "b": digests.of_bytes(LARGE)})
METHODS = [
    *("GetCapabilities", "FindMissingBlobs", "BatchReadBlobs", "BatchUpdateBlobs"),
    *("Read", "Write", "QueryWriteStatus", "GetActionResult", "UpdateActionResult"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[ReapiServer]:
    with serving(ReapiServer()) as running:
        yield running


@pytest.mark.parametrize("method", METHODS)
def test_a_build_goes_on(tmp_path: Path, server: ReapiServer, method: str) -> None:
    """With each status there is, and with what is no message."""
    for number, code in enumerate([*CODES, ""]):
        server.clear()
        server.blobs |= {digests.of_bytes(data): data for data in (SMALL, LARGE)}
        server.results[KEY] = sealing.seal_message(KEY, HELD)
        server.garbled = "" if code else method
        refused = None if code == "OK" else code or None
        server.refuse = lambda name, _, refused=refused: refused if name == method else None
        transport = GrpcTransport(f"{server.address}/i", Credentials("secret"), seconds=30.0)
        retrying = RetryingTransport(transport, Backoff(attempts=2, sleep=lambda _: None))
        with contextlib.closing(RemoteStore(retrying)) as remote:
            store = TieredStore(LocalStore(tmp_path / str(number)), lambda: remote, writes=True)
            found = store.lookup([KEY, OTHER_KEY])
            lacking = store.fetch(HELD.outputs.values())
            for data in (SMALL, LARGE):
                assert (
                    digests.of_bytes(data) in lacking or store.read(digests.of_bytes(data)) == data
                )
            made = {"a": store.write(b"made"), "b": store.write(LARGE[1:])}
            store.put_result(OTHER_KEY, ActionResult(made))
            store.finish()
            told = store.warnings()
            for line in told:
                assert line.isprintable()
                assert server.address in line
                assert "secret" not in line
            missed = (method, code) == ("GetActionResult", "NOT_FOUND")
            if set(found) != {KEY} or lacking or OTHER_KEY not in server.results:
                assert told or missed, code
            if not refused and code:
                assert not told
