"""The local store with a remote one behind it: what moves, when, and what is said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.digest import Digest
from cache.errors import RemoteUnavailable, StoreUnavailable
from cache.local.store import LocalStore
from cache.memory import MemoryTransport
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.store import RemoteStore
from cache.tiered import TieredStore
from tests.cache.local_stores import blob_file, overwrite, rot
from tests.cache.reapi_server import ReapiServer, serving

KEY, OTHER_KEY = digests.of_bytes(b"key"), digests.of_bytes(b"other key")


class Meeting(MemoryTransport):
    """A server at which uploads of results and blobs begin together, as far as they can."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Digest] = []
        self._both_asked = threading.Barrier(2)

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        found = super().missing(digests)
        if found:
            self._both_asked.wait()
        return found

    def send(self, digest: Digest, source: BinaryIO) -> None:
        self.sent.append(digest)
        super().send(digest, source)


class Broken(MemoryTransport):
    """A server that refuses everything."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def get_entry(self, key: Digest) -> bytes | None:
        self.asked += 1
        raise RemoteUnavailable(f"{self.address}: forbidden", f"ask for {key}")

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        self.asked += 1
        raise RemoteUnavailable(f"{self.address}: forbidden", f"ask for {len(digests)}")


def tiered(
    place: Path, server: MemoryTransport, *, writes: bool = True, required: bool = False
) -> TieredStore:
    remote = RemoteStore(server)
    return TieredStore(LocalStore(place), lambda: remote, writes=writes, required=required)


def test_a_result_is_found_without_its_blobs(tmp_path: Path) -> None:
    server = MemoryTransport()
    one, two = tiered(tmp_path / "one", server), tiered(tmp_path / "two", server)
    digest = one.write(b"content")
    one.put_result(KEY, ActionResult({"a": digest}))
    one.finish()
    found = two.lookup([KEY, OTHER_KEY])
    assert {key: (one.result.outputs, one.local) for key, one in found.items()} == {
        KEY: ({"a": digest}, False)
    }
    assert two.local.missing([digest]) == {digest}
    assert two.missing([digest]) == set()
    assert two.fetch([digest]) == set()
    assert two.local.read(digest) == b"content"


def test_a_blob_that_two_results_have_is_sent_once(tmp_path: Path) -> None:
    server = Meeting()
    store = tiered(tmp_path, server)
    digest = store.write(b"content" * 1_000_000)
    for key in (KEY, OTHER_KEY):
        store.put_result(key, ActionResult({"a": digest}))
    store.finish()
    assert not store.warnings()
    assert set(server.results) == {KEY, OTHER_KEY}
    assert server.sent == [digest]


def test_a_broken_server_is_asked_once_and_warned_about_once(tmp_path: Path) -> None:
    server = Broken()
    store = tiered(tmp_path, server)
    for key in (KEY, OTHER_KEY):
        assert store.get_result(key) is None
        assert store.fetch([key]) == {key}
    assert server.asked == 1
    assert store.warnings() == ["memory: forbidden: going on without the remote cache"]
    for key in (KEY, OTHER_KEY):
        store.put_result(key, ActionResult({"a": store.write(b"x")}))
        store.finish()
    assert server.asked == 2
    assert store.warnings() == ["memory: forbidden: nothing more is written to the remote cache"]


def test_a_required_server_that_is_broken_is_an_error(tmp_path: Path) -> None:
    store = tiered(tmp_path, Broken(), required=True)
    with pytest.raises(RemoteUnavailable):
        store.get_result(KEY)
    store.put_result(KEY, ActionResult({"a": store.write(b"x")}))
    with pytest.raises(RemoteUnavailable):
        store.finish()


def test_a_switch_that_is_off_asks_nothing(tmp_path: Path) -> None:
    server = Broken()
    remote = RemoteStore(server)
    store = TieredStore(LocalStore(tmp_path), lambda: remote, reads=False, writes=False)
    store.put_result(KEY, ActionResult({"a": store.write(b"x")}))
    store.finish()
    assert store.get_result(OTHER_KEY) is None
    assert server.asked == 0


def test_a_full_disk_is_not_the_servers_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MemoryTransport()
    digest = digests.of_bytes(b"content")
    server.blobs[digest] = b"content"
    store = tiered(tmp_path, server)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3}))
    with pytest.raises(StoreUnavailable, match="does not fit") as caught:
        store.fetch([digest])
    assert not isinstance(caught.value, RemoteUnavailable)
    assert store.reads


def test_abandoned_uploads_leave_no_result_without_its_blobs(tmp_path: Path) -> None:
    server = MemoryTransport()
    store = tiered(tmp_path, server)
    for number in range(20):
        key = digests.of_bytes(b"key %d" % number)
        store.put_result(key, ActionResult({"a": store.write(b"%d" % number)}))
    store.finish(abandon=True)
    reader = RemoteStore(server)
    assert set(reader.get_results(server.results)) == set(server.results)


def test_many_small_blobs_go_and_come_together(tmp_path: Path) -> None:
    all_wait = threading.Event()
    with serving(ReapiServer()) as server:
        find = server.FindMissingBlobs
        server.FindMissingBlobs = lambda *asked: find(*asked) if all_wait.wait(60) else None  # type: ignore[method-assign]
        one, two = (
            TieredStore(
                LocalStore(tmp_path / name),
                partial(connect, server.address, Credentials()),
                writes=True,
            )
            for name in ("one", "two")
        )
        results = {
            digests.of_bytes(b"key %d" % n): ActionResult({"a": one.write(b"%d" % n)})
            for n in range(80)
        }
        for key, result in results.items():
            one.local.put_result(key, result)
        for key in results:
            one.push(key)
        all_wait.set()
        one.finish()
        assert not one.warnings()
        outputs = [found.result.outputs["a"] for found in two.lookup(results).values()]
        assert two.fetch(outputs) == set()
        assert [two.local.read(digest) for digest in outputs] == [b"%d" % n for n in range(80)]
        assert server.asked["BatchReadBlobs"] == 1
        assert server.asked["BatchUpdateBlobs"] < 40
        one.close()
        two.close()


def test_blobs_that_the_server_lost_are_sent_again(tmp_path: Path) -> None:
    server = MemoryTransport()
    store = tiered(tmp_path, server)
    digest = store.write(b"content")
    for key in (KEY, OTHER_KEY):
        store.put_result(key, ActionResult({"a": digest}))
        store.finish()
        assert server.blobs == {digest: b"content"}
        server.blobs.clear()
    assert not store.warnings()
    assert set(server.results) == {KEY, OTHER_KEY}


@pytest.mark.parametrize("damage", ["rot", "change", "remove"])
def test_a_result_that_was_damaged_here_keeps_no_other_back(tmp_path: Path, damage: str) -> None:
    """The server is asked what it lacks just before the blob is damaged."""

    def damaged() -> None:
        if damage == "rot":
            rot(store.local, bad)
        else:
            overwrite(blob_file(tmp_path, bad), b"Content" if damage == "change" else None)

    server = Damaging(damaged)
    store = tiered(tmp_path, server)
    bad, good = store.write(b"content"), store.write(b"other")
    results = {KEY: ActionResult({"a": bad}), OTHER_KEY: ActionResult({"a": good})}
    for key, result in results.items():
        store.local.put_result(key, result)
    assert store.remote is not None
    store._push([(key, {}) for key in results])  # in the background they may not go together
    assert server.blobs == {good: b"other"}
    assert set(server.results) == {OTHER_KEY}
    [warning] = store.warnings()
    assert f"result {KEY.hash} was damaged or collected meanwhile" in warning
    store.put_result(KEY, ActionResult({"a": store.write(b"content")}))
    store.finish()
    assert set(server.results) == {KEY, OTHER_KEY}
    assert not store.warnings()


class Damaging(MemoryTransport):
    """A server that says that it lacks blobs, after something has happened to them once."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens: Callable[[], None] | None = happens

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        if self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return super().missing(digests)


class Stopping(MemoryTransport):
    """A server during whose first upload of a result something happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens = happens

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        if not self.results:
            self.happens()
        return super().put_entry(key, entry, replace=replace)


def test_an_interrupted_run_ends_with_what_goes_together(tmp_path: Path) -> None:
    """Of results that are sent in one go, those that do not go together with the first one stay."""
    reached, goes_on = threading.Event(), threading.Event()

    def happens() -> None:
        reached.set()
        assert goes_on.wait(60)

    server = Stopping(happens)
    store = tiered(tmp_path, server)
    keys = [digests.of_bytes(b"key %d" % number) for number in range(3)]
    for number, key in enumerate(keys):
        content = bytes((number,)) * ((9 << 20) + number)
        store.local.put_result(key, ActionResult({"a": store.write(content)}))
    sending = threading.Thread(target=store._push, args=([(key, {}) for key in keys],))
    assert store.remote is not None
    sending.start()
    assert reached.wait(60)
    store._uploads.abandoned.set()
    goes_on.set()
    sending.join()
    assert set(server.results) == {keys[0]}
    assert len(server.blobs) == 1
