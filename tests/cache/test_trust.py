"""Whose results are believed: what trusted keys signed, as it was signed, and what was made here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from cache import digest as digests
from cache import sealing, signing, wire
from cache.action import ActionResult, Signature
from cache.errors import CacheError, CorruptBlob, Untrusted
from cache.local.store import LocalStore
from cache.memory import MemoryTransport
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.store import RemoteStore
from cache.tiered import TieredStore
from cache.trust import Judgement, Trust, Verdict
from tests.cache.remote import test_store as test_remote
from tests.cache.signers import BUILDERS, KEYS, OUTPUTS, another, signer

if TYPE_CHECKING:
    from pathlib import Path

    from cache.digest import Digest
    from cache.signing import Signer
    from cache.store import Store

KEY, OTHER_KEY = digests.of_bytes(b"key"), digests.of_bytes(b"other key")
CI, NEW, STRANGER = signer("ci"), another("new"), another("stranger")
MADE = ActionResult({"outputs/a": digests.of_bytes(b"content")})


def trust(*signers: Signer, by: Signer | None = None) -> Trust:
    return Trust({f"key-of-{one.builder}": one.public for one in signers}, by)


def signed(key: Digest, result: ActionResult, *signers: Signer) -> ActionResult:
    """A result as it comes from a server."""
    signatures = tuple(one.sign(key, result) for one in signers)
    return replace(result, signatures=signatures, fetched=True)


def verdict(key: Digest, result: ActionResult, *signers: Signer) -> Verdict:
    return trust(*signers).judge(key, result).verdict


# --- what is believed


@given(KEYS, OUTPUTS, BUILDERS)
def test_what_a_trusted_key_signed_is_believed(
    key: Digest, outputs: dict[str, Digest], builder: str
) -> None:
    ours = replace(CI, builder=builder)
    result = signed(key, ActionResult(outputs), ours)
    judgement = Trust({"ci": CI.public}).judge(key, result)
    assert judgement == Judgement(Verdict.TRUSTED, builder, "ci")
    message = sealing.seal_message(key, result)
    there_and_back = reapi.ActionResult.FromString(message).SerializeToString()
    for entry in (message, there_and_back):  # servers keep it as they read it
        assert Trust({"ci": CI.public}).judge(key, sealing.unseal_message(key, entry)) == judgement


def test_signatures_are_what_other_tools_pass_over() -> None:
    """Each an Any of a type that they do not know, in the metadata of the execution."""
    (metadata,) = wire.messages(wire.parse(sealing.seal_message(KEY, signed(KEY, MADE, CI))), 9)
    entries = map(Any.FromString, wire.messages(wire.parse(metadata), 11))
    assert [one.type_url for one in entries] == [
        "type.googleapis.com/olmill.Seal",
        "type.googleapis.com/olmill.Signature",
    ]


@given(KEYS, OUTPUTS, st.data())
def test_a_flipped_bit_is_not_believed(
    key: Digest, outputs: dict[str, Digest], data: st.DataObject
) -> None:
    """Of the key, an output, the builder, the signer or the signature."""
    result = signed(key, ActionResult(outputs), CI)
    (signature,) = result.signatures
    path = data.draw(st.sampled_from(sorted(outputs)))
    what = data.draw(st.sampled_from(["key", "digest", "path", "builder", "signer", "value"]))
    if what == "key":
        key = _flipped_digest(key, data)
    elif what == "digest":
        changed = {path: _flipped_digest(outputs[path], data)}
        result = replace(result, outputs={**outputs, **changed})
    elif what == "path":
        rest = {name: digest for name, digest in outputs.items() if name != path}
        result = replace(result, outputs={**rest, path + "x": outputs[path]})
    elif what == "builder":
        flipped = _flipped(signature.builder.encode(), data).decode("latin-1")
        result = replace(result, signatures=(replace(signature, builder=flipped),))
    elif what == "signer":
        flipped_key = _flipped(signature.signer, data)
        result = replace(result, signatures=(replace(signature, signer=flipped_key),))
    else:
        flipped_value = _flipped(signature.value, data)
        result = replace(result, signatures=(replace(signature, value=flipped_value),))
    assert verdict(key, result, CI) in (Verdict.FORGED, Verdict.UNTRUSTED)
    if what == "signer":  # nor by who would trust that key
        found = Trust({"x": result.signatures[0].signer}).judge(key, result).verdict
        assert found is Verdict.FORGED


def _flipped(value: bytes, data: st.DataObject) -> bytes:
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _flipped_digest(digest: Digest, data: st.DataObject) -> Digest:
    if data.draw(st.booleans()):
        return replace(digest, size=digest.size ^ 1 << data.draw(st.integers(0, 62)))
    return replace(digest, hash=_flipped(bytes.fromhex(digest.hash), data).hex())


@given(OUTPUTS, OUTPUTS)
def test_no_output_is_added_taken_or_swapped(
    one: dict[str, Digest], other: dict[str, Digest]
) -> None:
    result = signed(KEY, ActionResult(one), CI)
    changed = replace(result, outputs=dict(sorted(other.items())))
    assert (verdict(KEY, changed, CI) is Verdict.TRUSTED) == (one == other)


@given(KEYS, KEYS, OUTPUTS)
def test_a_signature_is_for_one_action(
    key: Digest, other: Digest, outputs: dict[str, Digest]
) -> None:
    result = signed(key, ActionResult(outputs), CI)
    assert (verdict(other, result, CI) is Verdict.TRUSTED) == (key == other)


@pytest.mark.parametrize(
    ("signers", "trusted", "expected"),
    [
        ((), (CI,), Verdict.UNSIGNED),
        ((), (), Verdict.UNSIGNED),
        ((STRANGER,), (CI,), Verdict.UNTRUSTED),
        ((STRANGER,), (), Verdict.UNTRUSTED),
        ((STRANGER, CI), (CI,), Verdict.TRUSTED),
        ((CI, NEW), (CI, NEW), Verdict.TRUSTED),
        ((CI, NEW), (NEW,), Verdict.TRUSTED),
    ],
)
def test_verdicts(
    signers: tuple[Signer, ...], trusted: tuple[Signer, ...], expected: Verdict
) -> None:
    result = signed(KEY, MADE, *signers)
    assert verdict(KEY, result, *trusted) is expected
    assert trust(*trusted).believes(expected) == (not trusted or expected is Verdict.TRUSTED)


def test_a_wrong_signature_beside_a_right_one_does_no_harm() -> None:
    result = signed(KEY, MADE, CI)
    wrong = replace(result.signatures[0], builder="me")
    for signatures in ((wrong, *result.signatures), (*result.signatures, wrong)):
        both = replace(result, signatures=signatures)
        assert trust(CI).judge(KEY, both) == Judgement(Verdict.TRUSTED, "ci", "key-of-ci")
    assert verdict(KEY, replace(result, signatures=(wrong,)), CI) is Verdict.FORGED


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_keys_and_signatures_of_other_sizes_are_wrong(size: int) -> None:
    odd = Signature("ci", bytes(size), CI.sign(KEY, MADE).value)
    assert not signing.verifies(KEY, MADE, odd)
    short = Signature("ci", CI.public, bytes(size))
    assert not signing.verifies(KEY, MADE, short)


def test_what_was_made_here_is_believed() -> None:
    assert verdict(KEY, MADE, CI) is Verdict.BUILT
    assert trust(CI).believes(Verdict.BUILT)
    assert trust(CI).vouchers(KEY, MADE) is None
    assert trust(CI).still_believes(None)


def test_who_vouched_for_it_is_remembered() -> None:
    result = signed(KEY, MADE, STRANGER, CI, NEW)
    vouchers = trust(CI, NEW).vouchers(KEY, result)
    assert vouchers == [signing.write_public(one.public) for one in (CI, NEW)]
    assert trust(NEW).still_believes(vouchers)
    assert trust().still_believes(vouchers)
    assert not trust(STRANGER).still_believes(vouchers)
    assert not trust(CI).still_believes([])


# --- signing


def test_what_was_made_here_is_signed() -> None:
    for keys in (trust(by=CI), trust(CI, by=CI)):
        (signature,) = keys.sign(KEY, MADE).signatures
        assert signature == CI.sign(KEY, MADE)


def test_what_a_trusted_key_vouches_for_is_signed_in_the_name_of_its_builder() -> None:
    """Rotation: the new key beside the old one, then without it."""
    old = signed(KEY, MADE, CI, STRANGER)
    both = trust(CI, NEW, by=NEW).sign(KEY, old)
    assert [(one.builder, one.signer) for one in both.signatures] == [
        ("ci", NEW.public),
        ("ci", CI.public),
    ]
    assert trust(CI, NEW, by=NEW).sign(KEY, both).signatures == both.signatures
    assert trust(NEW).judge(KEY, both) == Judgement(Verdict.TRUSTED, "ci", "key-of-new")
    (alone,) = trust(NEW, by=NEW).sign(KEY, both).signatures
    assert (alone.builder, alone.signer) == ("ci", NEW.public)


@pytest.mark.parametrize("signers", [(), (STRANGER,)])
def test_nobody_signs_what_came_from_who_knows_where(signers: tuple[Signer, ...]) -> None:
    result = signed(KEY, MADE, *signers)
    with pytest.raises(Untrusted, match="came from elsewhere"):
        trust(CI, by=CI).sign(KEY, result)
    assert trust(by=CI).sign(KEY, result).signatures == result.signatures


def test_nothing_is_given_to_others_that_they_would_not_believe() -> None:
    with pytest.raises(Untrusted, match="without a signature"):
        trust(CI).sign(KEY, MADE)
    with pytest.raises(Untrusted, match="is not trusted") as caught:
        trust(CI, by=STRANGER).sign(KEY, MADE)
    assert caught.value.hint
    mirrored = signed(KEY, MADE, CI)
    for by in (None, STRANGER):
        assert trust(CI, by=by).sign(KEY, mirrored).signatures == mirrored.signatures
    assert trust().sign(KEY, MADE).signatures == ()


def test_signatures_are_never_more_than_are_read() -> None:
    everybody = [another(f"builder-{number}") for number in range(sealing.MAX_SIGNATURES)]
    result = signed(KEY, MADE, *everybody)
    again = trust(*everybody, CI, by=CI).sign(KEY, result)
    assert len(again.signatures) == sealing.MAX_SIGNATURES
    sealing.unseal_message(KEY, sealing.seal_message(KEY, again))
    more = replace(again, signatures=(*again.signatures, again.signatures[0]))
    with pytest.raises(CorruptBlob, match="more than 16"):
        sealing.unseal_message(KEY, sealing.seal_message(KEY, more))


# --- in stores


@given(OUTPUTS, st.booleans(), st.lists(st.sampled_from([CI, NEW, STRANGER]), max_size=3))
def test_a_store_of_our_own_knows_what_was_made_here(
    outputs: dict[str, Digest], fetched: bool, signers: list[Signer]
) -> None:
    result = replace(signed(KEY, ActionResult(outputs), *signers), fetched=fetched)
    found = sealing.unseal(KEY, sealing.seal(KEY, result))
    assert found == result
    assert (found.signatures, found.fetched) == (result.signatures, fetched)
    assert sealing.unseal_message(KEY, sealing.seal_message(KEY, result)).fetched


def test_a_server_cannot_say_that_a_result_was_made_here() -> None:
    entry = sealing.seal(KEY, MADE)[65:] + sealing.seal_message(KEY, MADE)
    try:
        result = sealing.unseal_message(KEY, entry)
    except CacheError:
        return
    assert result.fetched


class TestSignedRemoteStore(test_remote.TestRemoteStore):
    """The contract, where every result is signed."""

    @pytest.fixture
    def store(self) -> Store:
        self.server = self.transport()
        return RemoteStore(self.server, trust=trust(CI, by=CI))


class TestSignedWriteOnceServer(TestSignedRemoteStore):
    replaces_results = False

    def transport(self) -> MemoryTransport:
        return MemoryTransport(write_once=True)


def stores(
    place: Path, server: MemoryTransport, keys: Trust, *, required: bool = False
) -> TieredStore:
    return TieredStore(
        LocalStore(place),
        lambda: RemoteStore(server),
        writes=True,
        required=required,
        trust=keys,
    )


def put(store: TieredStore, content: bytes = b"content", key: Digest = KEY) -> ActionResult:
    result = ActionResult({"outputs/a": store.write(content)})
    store.put_result(key, result)
    store.finish()
    return result


def fetch(store: TieredStore, key: Digest = KEY) -> None:
    """What a build does that wants the files of a result."""
    found = store.lookup([key])[key]
    assert not store.fetch(found.result.outputs.values())
    store.local.put_result(key, found.result)


def test_unsigned_results_are_misses_and_counted(tmp_path: Path) -> None:
    server = MemoryTransport()
    careless = stores(tmp_path / "one", server, trust())
    careful = stores(tmp_path / "two", server, trust(CI))
    for key in (KEY, OTHER_KEY):
        put(careless, key=key)
    assert not careless.warnings()
    assert careful.lookup([KEY]) == {}
    assert careful.warnings() == ["memory: 1 result not believed: not signed"]
    assert careful.lookup([KEY, OTHER_KEY]) == {}
    assert careful.warnings() == ["memory: 2 results in all not believed: not signed"]
    assert careful.lookup([KEY, OTHER_KEY]) == {}
    assert careful.warnings() == []


def test_signed_results_are_found(tmp_path: Path) -> None:
    server = MemoryTransport()
    put(stores(tmp_path / "ci", server, trust(CI, by=CI)))
    other = stores(tmp_path / "other", server, trust(CI))
    fetch(other)
    assert not other.warnings()
    assert trust(CI).judge(KEY, other.lookup([KEY])[KEY].result).builder == "ci"


def test_a_key_that_is_no_longer_trusted_takes_with_it_what_was_fetched(tmp_path: Path) -> None:
    """And what was fetched when nobody was asked."""
    server = MemoryTransport()
    put(stores(tmp_path / "ci", server, trust(CI, by=CI)))
    for number, before in enumerate((trust(CI), trust())):
        place = tmp_path / str(number)
        fetch(stores(place, server, before))
        after = stores(place, server, trust(NEW))
        assert after.lookup([KEY]) == {}
        assert after.warnings() == [
            f"{place}: 1 result not believed: signed by no trusted key",
            "memory: 1 result not believed: signed by no trusted key",
        ]
        put(after, key=KEY)  # made here now
        assert after.lookup([KEY])[KEY].local
        assert stores(place, server, trust(CI)).lookup([KEY])[KEY].local


def test_keys_are_rotated(tmp_path: Path) -> None:
    for write_once in (False, True):
        server = MemoryTransport(write_once=write_once)
        place = tmp_path / str(write_once)
        result = put(stores(place / "ci", server, trust(CI, by=CI)))
        both = stores(place / "both", server, trust(CI, NEW, by=NEW))
        fetch(both)
        both.push(KEY)
        both.finish()
        assert not both.warnings()
        for known in (CI, NEW):
            reader = stores(place / known.builder, server, trust(known))
            assert reader.get_result(KEY) == result
            assert not reader.warnings()


def test_a_result_that_is_written_once_stays(tmp_path: Path) -> None:
    """Unless nobody believes it."""
    server = MemoryTransport(write_once=True)
    put(stores(tmp_path / "stranger", server, trust(by=STRANGER)), b"evil")
    first = put(stores(tmp_path / "ci", server, trust(CI, by=CI)), b"first")
    put(stores(tmp_path / "new", server, trust(CI, NEW, by=NEW)), b"second")
    assert stores(tmp_path / "reader", server, trust(CI)).get_result(KEY) == first
    assert stores(tmp_path / "other", server, trust(NEW)).get_result(KEY) is None


@pytest.mark.parametrize(
    ("keys", "told"),
    [(trust(CI), "without a signature"), (trust(CI, by=STRANGER), "is not trusted")],
)
def test_what_nobody_would_believe_is_not_uploaded(tmp_path: Path, keys: Trust, told: str) -> None:
    server = MemoryTransport()
    store = stores(tmp_path / "one", server, keys)
    put(store)
    put(store, key=OTHER_KEY)
    assert not server.results
    assert not server.blobs
    (warning,) = store.warnings()
    assert warning.startswith("memory: 2 results not written: ")
    assert told in warning
    assert store.writes
    with pytest.raises(Untrusted):
        put(stores(tmp_path / "two", server, keys, required=True))


def test_what_a_child_process_did_not_believe_is_counted_by_its_parent(tmp_path: Path) -> None:
    server = MemoryTransport()
    put(stores(tmp_path / "one", server, trust()))
    child, parent = (stores(tmp_path / name, server, trust(CI)) for name in ("child", "parent"))
    assert child.lookup([KEY]) == {}
    assert child.notices() == []
    for cause, keys in child.distrusted().items():
        parent.distrust(cause, keys)
        parent.distrust(cause, keys)
    assert parent.warnings() == ["memory: 1 result not believed: not signed"]
