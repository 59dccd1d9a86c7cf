"""The tests that every store and every wrapper around one must pass.

A backend's own tests subclass both classes:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self) -> Store:
            return MyStore(...)

        def damage_blob(self, store, digest, data): ...  # writes past the store; see the hooks

    class MyStoreMachine(StoreMachine):
        def open_store(self) -> Store:
            return MyStore(...)

    TestMyStoreMachine = MyStoreMachine.TestCase

`cache.faults` has stores and disks that fail. Needs pytest and hypothesis, which the rest of the
package does not.
"""

from __future__ import annotations

import abc
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache import digest as digests
from cache.action import ActionResult
from cache.digest import Digest
from cache.errors import CacheError, CorruptBlob, InvalidPath, MissingBlob
from cache.faults import FaultyStore, deadly_disk, failing_disk, hooked_disk
from cache.memory import MemoryStore

if TYPE_CHECKING:
    from cache.store import Store

__all__ = [
    "FaultyStore",
    "StoreContract",
    "StoreMachine",
    "deadly_disk",
    "failing_disk",
    "hooked_disk",
]

KEY = digests.of_bytes(b"an action")
OTHER_KEY = digests.of_bytes(b"another action")
ABSENT = digests.of_bytes(b"never stored")


class StoreContract(abc.ABC):
    """What `cache.store.Store` promises, as tests of the fixture `store`.

    The hooks write raw bytes past the store. As they are, they reach a `MemoryStore`, also one
    behind wrappers that call what is behind them `inner`; other backends override them.
    """

    finds_damage_unread = True  # a server tells whether a blob is there, not whether it is intact
    replaces_results = True  # a server may keep the first result that can be used

    @abc.abstractmethod
    def store(self) -> Store:
        """Return an empty store; a pytest fixture in subclasses."""

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        """Replace a stored blob's bytes, or remove the blob (None)."""
        _put(_memory_behind(store).blobs, digest, data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        """Replace a stored result's bytes, or remove the result (None)."""
        _put(_memory_behind(store).results, key, data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        """Store the bytes of one action's result under another action's key."""
        memory = _memory_behind(store)
        memory.results[other] = memory.results[key]

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
    def test_what_is_written_is_read(self, store: Store, data: bytes) -> None:
        digest = store.write(data)
        assert digest == digests.of_bytes(data)
        assert store.read(digest) == data

    def test_writing_again_changes_nothing(self, store: Store) -> None:
        assert store.write(b"twice") == store.write(b"twice")
        assert store.read(digests.of_bytes(b"twice")) == b"twice"

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 12000])
    def test_a_file_is_stored_and_filled(self, store: Store, data: bytes) -> None:
        digest = digests.of_bytes(data)
        store.upload(digest, io.BytesIO(data))
        assert store.read(digest) == data
        into = io.BytesIO(b"what was there before")
        store.download(digest, into)
        assert into.getvalue() == data

    @pytest.mark.parametrize("data", [b"", b"short", b"Content of a file", b"content of a file!"])
    def test_a_file_that_holds_something_else_is_refused(self, store: Store, data: bytes) -> None:
        digest = digests.of_bytes(b"content of a file")
        with pytest.raises(CorruptBlob):
            store.upload(digest, io.BytesIO(data))
        assert store.missing([digest]) == {digest}

    def test_a_missing_blob_fills_no_file(self, store: Store) -> None:
        with pytest.raises(MissingBlob):
            store.download(ABSENT, io.BytesIO())

    def test_missing_tells_just_what_is_not_there(self, store: Store) -> None:
        there = store.write(b"there")
        assert store.missing([]) == set()
        assert store.missing([there, ABSENT, there]) == {ABSENT}
        assert store.missing(iter([ABSENT])) == {ABSENT}

    def test_a_missing_blob_is_said_to_be_missing(self, store: Store) -> None:
        with pytest.raises(MissingBlob, match=ABSENT.hash):
            store.read(ABSENT)

    def test_the_size_is_part_of_the_identity(self, store: Store) -> None:
        digest = store.write(b"sized")
        wrong = Digest(digest.hash, digest.size + 1)
        with pytest.raises((MissingBlob, CorruptBlob)):
            store.read(wrong)
        assert wrong in store.missing([wrong])

    def test_an_unknown_action_has_no_result(self, store: Store) -> None:
        assert store.get_result(KEY) is None

    def test_a_result_is_remembered(self, store: Store) -> None:
        result = ActionResult({"out/b": store.write(b"b"), "out/a/c": store.write(b"c")})
        store.put_result(KEY, result)
        assert store.get_result(KEY) == result
        assert store.get_result(OTHER_KEY) is None

    def test_how_long_an_action_ran_is_remembered_and_no_part_of_its_result(
        self, store: Store
    ) -> None:
        outputs = {"out": store.write(b"made")}
        store.put_result(KEY, ActionResult(outputs, 12.5))
        found = store.get_result(KEY)
        assert found == ActionResult(outputs)
        assert found is not None
        assert found.seconds == 12.5

    def test_a_result_without_outputs_is_refused(self, store: Store) -> None:
        with pytest.raises(CacheError):
            store.put_result(KEY, ActionResult({}))
        assert store.get_result(KEY) is None

    def test_a_later_result_replaces_an_earlier_one(self, store: Store) -> None:
        first, second = (ActionResult({"out": store.write(data)}) for data in (b"one", b"two"))
        for result in (first, second):
            store.put_result(KEY, result)
            assert store.get_result(KEY) == (result if self.replaces_results else first)

    def test_a_result_without_its_blobs_is_refused(self, store: Store) -> None:
        result = ActionResult({"here": store.write(b"here"), "gone": ABSENT})
        with pytest.raises(MissingBlob):
            store.put_result(KEY, result)
        assert store.get_result(KEY) is None

    @pytest.mark.parametrize(
        "paths",
        [
            ["../x"],
            ["/x"],
            ["a/../../x"],
            ["a//b"],
            ["."],
            [""],
            ["a\\b"],
            ["a\0"],
            ["a", "a/b"],
            ["A", "a"],
            ["d/x", "D/y"],
        ],
    )
    def test_a_result_may_not_leave_its_place(self, store: Store, paths: list[str]) -> None:
        digest = store.write(b"content")
        with pytest.raises(InvalidPath):
            store.put_result(KEY, ActionResult(dict.fromkeys(paths, digest)))
        assert store.get_result(KEY) is None

    @pytest.mark.parametrize(
        "damage", [b"", b"Precious", b"preciou", b"precious!", b"\0" * 8, None]
    )
    def test_a_damaged_blob_is_never_served(self, store: Store, damage: bytes | None) -> None:
        digest = store.write(b"precious")
        store.put_result(KEY, ActionResult({"out": digest}))
        self.damage_blob(store, digest, damage)
        with pytest.raises((CorruptBlob, MissingBlob)):
            store.read(digest)
        with pytest.raises((CorruptBlob, MissingBlob)):
            store.download(digest, io.BytesIO())
        assert store.missing([digest]) == {digest}
        assert store.get_result(KEY) is None

    def test_a_damaged_blob_is_found_out(self, store: Store) -> None:
        digest = store.write(b"precious")
        store.put_result(KEY, ActionResult({"out": digest}))
        self.damage_blob(store, digest, b"Precious")
        if not self.finds_damage_unread:
            with pytest.raises((CorruptBlob, MissingBlob)):
                store.read(digest)
        assert store.get_result(KEY) is None
        assert store.missing([digest]) == {digest}

    def test_a_damaged_blob_is_healed_by_writing_it(self, store: Store) -> None:
        digest = store.write(b"precious")
        store.put_result(KEY, ActionResult({"out": digest}))
        self.damage_blob(store, digest, b"Precious")
        assert store.write(b"precious") == digest
        assert store.read(digest) == b"precious"
        assert store.get_result(KEY) == ActionResult({"out": digest})

    @pytest.mark.parametrize("garbage", [b"", b"\0", b"garbage", b"\xff" * 100, b"\x12\x7f", None])
    def test_a_garbled_result_is_no_result(self, store: Store, garbage: bytes | None) -> None:
        result = ActionResult({"out": store.write(b"made")})
        store.put_result(KEY, result)
        self.damage_result(store, KEY, garbage)
        assert store.get_result(KEY) is None
        store.put_result(KEY, result)
        assert store.get_result(KEY) == result

    def test_a_result_counts_for_its_own_action_only(self, store: Store) -> None:
        store.put_result(KEY, ActionResult({"out": store.write(b"made")}))
        self.move_result(store, KEY, OTHER_KEY)
        assert store.get_result(OTHER_KEY) is None


def _memory_behind(store: Any) -> MemoryStore:
    while not isinstance(store, MemoryStore):
        if not hasattr(store, "inner"):
            pytest.skip(f"nothing reaches past {type(store).__name__}")
        store = store.inner
    return store


def _put(entries: dict[Digest, bytes], key: Digest, data: bytes | None) -> None:
    if data is None:
        del entries[key]
    else:
        entries[key] = data


_CONTENTS = [b"", b"a", b"bb", bytes(1000), bytes(range(256)) * 300]
_DIGESTS = [digests.of_bytes(content) for content in _CONTENTS]
_KEYS = [digests.of_bytes(f"action {number}".encode()) for number in range(3)]


class StoreMachine(RuleBasedStateMachine):
    """Random operations on a store, compared with `MemoryStore` after each."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MemoryStore()
        self.store = self.open_store()

    def open_store(self) -> Store:
        """Return the store under test: empty at first, later with what it holds."""
        raise NotImplementedError

    def damage_blob(self, digest: Digest, data: bytes | None) -> bool:
        """Replace or remove a blob past the store; return whether that is possible."""
        del digest, data
        return False

    def damage_result(self, key: Digest, data: bytes | None) -> bool:
        """Replace or remove a result past the store; return whether that is possible."""
        del key, data
        return False

    @rule(content=st.sampled_from(_CONTENTS))
    def write(self, content: bytes) -> None:
        """Write a blob."""
        assert self.store.write(content) == self.model.write(content)

    @rule(digest=st.sampled_from(_DIGESTS))
    def read(self, digest: Digest) -> None:
        """Read a blob."""
        if self.model.missing([digest]):
            with pytest.raises((MissingBlob, CorruptBlob)):
                self.store.read(digest)
        else:
            assert self.store.read(digest) == self.model.read(digest)

    @rule(
        key=st.sampled_from(_KEYS),
        outputs=st.dictionaries(
            st.sampled_from(["a", "b/c", "b/d"]), st.sampled_from(_DIGESTS), min_size=1
        ),
    )
    def put_result(self, key: Digest, outputs: dict[str, Digest]) -> None:
        """Put a result, whose blobs may be missing."""
        result = ActionResult(outputs)
        if self.model.missing(outputs.values()):
            with pytest.raises(MissingBlob):
                self.store.put_result(key, result)
        else:
            self.store.put_result(key, result)
            self.model.put_result(key, result)

    @rule(
        digest=st.sampled_from(_DIGESTS), damage=st.sampled_from([b"", b"b", b"zz", b"zzz", None])
    )
    def damage_a_blob(self, digest: Digest, damage: bytes | None) -> None:
        """Overwrite, truncate or remove a blob."""
        if digest in self.model.blobs and self.damage_blob(digest, damage):
            if damage is None:
                del self.model.blobs[digest]
            else:
                self.model.blobs[digest] = damage

    @rule(key=st.sampled_from(_KEYS), damage=st.sampled_from([b"", b"\x12\x00", b"?", None]))
    def damage_a_result(self, key: Digest, damage: bytes | None) -> None:
        """Overwrite, truncate or remove a result."""
        if key in self.model.results and self.damage_result(key, damage):
            del self.model.results[key]

    @rule()
    def reopen(self) -> None:
        """Open the store anew, as another process would."""
        self.store = self.open_store()

    @invariant()
    def agrees(self) -> None:
        """Compare everything that can be asked."""
        assert self.store.missing(_DIGESTS) == self.model.missing(_DIGESTS)
        for key in _KEYS:
            assert self.store.get_result(key) == self.model.get_result(key)
