"""What a server says, verified; what it was interrupted in, tried again."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import digest as digests
from cache import sealing
from cache.action import ActionResult
from cache.errors import CacheError, CorruptBlob, Interrupted, RemoteUnavailable
from cache.local.store import LocalStore
from cache.memory import MemoryTransport
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.credentials import Credentials
from cache.remote.http_transport import HttpTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from cache.testing import StoreContract
from cache.tiered import TieredStore
from tests.cache.hostile import Request, hostile, response
from tests.cache.local_stores import blob_file, overwrite, result_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cache.digest import Digest
    from cache.store import Store

KEY = digests.of_bytes(b"key")
LARGE = bytes(range(256)) * 16000


class Flaky(MemoryTransport):
    """A server that cuts every blob after a while, and fails every second time."""

    def __init__(self, part: int = 1 << 21) -> None:
        super().__init__()
        self._part = part
        self._calls = itertools.count(1)
        self.offsets: list[int] = []

    def _fail(self) -> None:
        if next(self._calls) % 2:
            raise Interrupted("flaky", "try again")

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        self.offsets.append(offset)
        size = 0
        for part in super().receive(digest, offset):
            size += len(part)
            yield part
            if size >= self._part:
                raise Interrupted("flaky", "try again")

    def get_entry(self, key: Digest) -> bytes | None:
        self._fail()
        return super().get_entry(key)

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        self._fail()
        return super().put_entry(key, entry, replace=replace)


class TestRemoteStore(StoreContract):
    finds_damage_unread = False

    @pytest.fixture
    def store(self) -> Store:
        self.server = self.transport()
        return RemoteStore(
            RetryingTransport(self.server, Backoff(sleep=lambda _: None, chance=lambda: 0.0))
        )

    def transport(self) -> MemoryTransport:
        return MemoryTransport()

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


class TestFlakyServer(TestRemoteStore):
    def transport(self) -> MemoryTransport:
        return Flaky()


class TestWriteOnceServer(TestRemoteStore):
    replaces_results = False

    def transport(self) -> MemoryTransport:
        return MemoryTransport(write_once=True)


class TestTieredStore(StoreContract):
    """Here, what is here; the rest from a server that has everything."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        remote = RemoteStore(MemoryTransport())
        tiered = TieredStore(LocalStore(tmp_path), lambda: remote, reads=False, writes=True)
        yield tiered
        tiered.finish()
        # An upload may just read what a test damages, which ends that upload alone.
        assert tiered.writes
        assert all("damaged or collected" in warning for warning in tiered.warnings())

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        assert isinstance(store, TieredStore)
        overwrite(blob_file(store.local.root, digest), data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        assert isinstance(store, TieredStore)
        overwrite(result_file(store.local.root, key), data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        assert isinstance(store, TieredStore)
        target = result_file(store.local.root, other)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(result_file(store.local.root, key).read_bytes())


def test_a_download_goes_on_where_it_stopped() -> None:
    server = Flaky(part=1 << 20)
    store = RemoteStore(RetryingTransport(server, Backoff(attempts=2, sleep=lambda _: None)))
    digest = store.write(LARGE)
    assert store.read(digest) == LARGE
    assert server.offsets == [0, 1 << 20, 2 << 20, 3 << 20]


def test_little_by_little_is_given_up() -> None:
    """Progress of less than a MiB each time is none."""
    server = Flaky(part=1)
    server.blobs[digests.of_bytes(LARGE)] = LARGE
    backoff = Backoff(attempts=3, sleep=lambda _: None)
    parts = RetryingTransport(Slow(server), backoff).receive(digests.of_bytes(LARGE), 0)
    with pytest.raises(Interrupted):
        list(parts)


class Slow(MemoryTransport):
    """A server that gives ten bytes for each request."""

    def __init__(self, inner: MemoryTransport) -> None:
        super().__init__()
        self.blobs = inner.blobs

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        yield self.blobs[digest][offset : offset + 10]
        raise Interrupted("slow", "try again")


def test_pauses_grow_and_are_random() -> None:
    slept: list[float] = []
    backoff = Backoff(attempts=6, first=1, longest=5, sleep=slept.append, chance=lambda: 0.5)
    error = Interrupted("busy")
    for failed in range(1, 6):
        backoff.pause(failed, error)
    assert slept == [0.75, 1.5, 3.0, 3.75, 3.75]
    with pytest.raises(Interrupted):
        backoff.pause(6, error)
    backoff.pause(1, Interrupted("busy", after=7))
    assert slept[-1] == 7
    with pytest.raises(Interrupted):
        backoff.pause(1, Interrupted("busy", after=3600))


@given(st.dictionaries(st.sampled_from(["a", "b/c", "d"]), st.binary(max_size=5), min_size=1))
def test_sealed_messages_are_read_by_other_tools(files: dict[str, bytes]) -> None:
    outputs = {path: digests.of_bytes(data) for path, data in files.items()}
    message = sealing.seal_message(KEY, ActionResult(outputs))
    found = reapi.ActionResult.FromString(message)
    assert {file.path: file.digest.hash for file in found.output_files} == {
        path: digest.hash for path, digest in outputs.items()
    }
    # a server may keep it as it reads it
    assert sealing.unseal_message(KEY, found.SerializeToString()).outputs == outputs


@given(st.binary(max_size=200), st.booleans())
def test_no_garbage_is_unsealed(data: bytes, after: bool) -> None:
    message = sealing.seal_message(KEY, ActionResult({"a": KEY}))
    for garbled in (data, message + data if after else data + message):
        try:
            result = sealing.unseal_message(KEY, garbled)
        except CacheError:
            continue
        assert result.outputs == {"a": KEY}


@given(st.integers(0), st.integers(1, 255))
def test_no_flipped_bits_are_unsealed(position: int, flip: int) -> None:
    message = bytearray(sealing.seal_message(KEY, ActionResult({"a": KEY})))
    message[position % len(message)] ^= flip
    try:
        result = sealing.unseal_message(KEY, bytes(message))
    except CacheError:
        return
    assert result.outputs == {"a": KEY}


def test_a_connection_may_be_cut_at_every_byte() -> None:
    """Of an answer to each request; what is read is right, or nothing is read."""
    data = b"content"
    digest = digests.of_bytes(data)
    entry = sealing.seal_message(KEY, ActionResult({"outputs/a": digest}))
    answers = {f"/cas/{digest.hash}": response(data), f"/ac/{KEY.hash}": response(entry)}
    with hostile() as server:
        transport = HttpTransport(server.address, Credentials())
        for path, answer in answers.items():
            for length in range(len(answer)):

                def attack(
                    request: Request, path: str = path, part: bytes = answer[:length]
                ) -> Iterator[bytes] | None:
                    if request.method == "GET" and request.path == path:
                        return iter([part])
                    whole = answers[request.path]
                    return iter([whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"])

                server.attack = attack
                store = RemoteStore(transport)
                if path.startswith("/ac/"):
                    try:
                        assert store.get_result(KEY) is None
                    except RemoteUnavailable:
                        continue
                else:
                    with pytest.raises((RemoteUnavailable, CorruptBlob)):
                        store.read(digest)
        server.attack = lambda request: iter([answers[request.path]])
        assert RemoteStore(transport).read(digest) == data
        transport.close()


def test_an_upload_may_be_refused_before_its_end() -> None:
    """The answer is told, not the broken connection."""
    with hostile() as server:
        transport = HttpTransport(server.address, Credentials())

        def refuse(_: Request) -> Iterator[bytes]:
            return iter([response(status="413 Request Entity Too Large")])

        server.attack = refuse
        with pytest.raises(RemoteUnavailable, match="413 Request Entity Too Large"):
            transport.send(digests.of_bytes(LARGE), io.BytesIO(LARGE))
        transport.close()
