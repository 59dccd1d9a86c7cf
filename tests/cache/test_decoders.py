"""Whatever bytes come: a decoder refuses them in one line, or what it returns can do no harm.

With OLMILL_FUZZ=N each test tries N examples.
"""

from __future__ import annotations

import hashlib
import posixpath
import unicodedata
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cache import digest as digests
from cache import merkle, sealing, signing, wire
from cache.action import ActionResult, Signature, decode_result, encode_result
from cache.digest import Digest
from cache.errors import CacheError
from cache.merkle import Tree
from cache.protocol import remote_execution_pb2 as reapi
from cache.trust import Trust, Verdict
from tests.cache.mutations import mutated
from tests.cache.signers import KEYS, OUTPUTS, another, signer

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY = digests.of_bytes(b"key")
CI, STRANGER = signer("ci"), another("stranger")
TRUST = Trust({"ci": CI.public})
FILES = {"outputs/a": digests.of_bytes(b"a"), "outputs/b/c": digests.of_bytes(b"bc")}
SIGNED = ActionResult(
    FILES, 1.5, tuple(one.sign(KEY, ActionResult(FILES)) for one in (STRANGER, CI)), fetched=True
)
IGNORED = set(range(5, 10))  # the fields of logs and of the worker
SEALED = sealing.seal_message(KEY, SIGNED)
RESULTS = st.sampled_from([SEALED, encode_result(SIGNED)]) | st.builds(
    lambda outputs: sealing.seal_message(KEY, ActionResult(outputs)), OUTPUTS
)


def refused(error: CacheError) -> None:
    """What is said goes to terminals and logs."""
    shown = f"{error} {error.hint}"
    assert shown.isprintable()
    assert len(shown) < 1000


def harmless(paths: Iterable[str]) -> None:
    """Files at these paths below a directory are below it, and each is another one anywhere."""
    seen = set()
    for path in paths:
        assert path
        assert posixpath.normpath(path) == path
        assert not path.startswith(("/", "../"))
        assert path != ".."
        assert "\\" not in path
        assert not any(ord(c) < 32 or ord(c) == 127 for c in path)
        path.encode()
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
        assert folded not in seen
        seen.add(folded)
    for path in seen:
        parents = path.split("/")[:-1]
        assert not any("/".join(parents[: count + 1]) in seen for count in range(len(parents)))


@given(mutated(RESULTS))
def test_results(data: bytes) -> None:
    try:
        result = decode_result(data)
    except CacheError as error:
        refused(error)
        return
    harmless(result.outputs)
    try:
        message = reapi.ActionResult.FromString(data)  # another decoder says the same
    except DecodeError:
        assert not IGNORED.isdisjoint(wire.parse(data))
        return
    assert result.outputs == {
        one.path: Digest(one.digest.hash, one.digest.size_bytes) for one in message.output_files
    }
    assert message.exit_code == 0
    assert not message.output_directories
    assert not message.output_symlinks
    assert not message.output_file_symlinks
    assert not message.output_directory_symlinks
    assert decode_result(encode_result(result)) == result


@given(mutated(RESULTS), st.booleans())
def test_sealed_messages(data: bytes, well_sealed: bool) -> None:
    """Whoever may write a message can also seal it: past the seal there has to be care, too."""
    if well_sealed:
        data = _sealed(data)
    try:
        result = sealing.unseal_message(KEY, data)
    except CacheError as error:
        refused(error)
        return
    harmless(result.outputs)
    assert result.fetched
    assert len(result.signatures) <= sealing.MAX_SIGNATURES
    judgement = TRUST.judge(KEY, result)
    assert f"{judgement.builder} {judgement.signer}".isprintable()
    if judgement.verdict is Verdict.TRUSTED:
        assert result.outputs == FILES
        assert (judgement.builder, judgement.signer) == ("ci", "ci")
    again = sealing.unseal(KEY, sealing.seal(KEY, result))
    assert (again, again.signatures, again.fetched) == (result, result.signatures, True)
    assert again.seconds is None or result.seconds is not None


def _sealed(data: bytes) -> bytes:
    try:
        message = encode_result(decode_result(data))
    except CacheError:
        return data
    seal = wire.field(1, sealing._SEAL_TYPE) + wire.field(2, sealing._seal_of(KEY, message))
    return data + wire.field(9, wire.field(11, seal))


@given(
    mutated(st.sampled_from([sealing.seal(KEY, SIGNED), sealing.seal(KEY, ActionResult(FILES))]))
)
def test_entries_of_our_own_store(data: bytes) -> None:
    """A file of the store that was damaged, or written by somebody who can make a checksum."""
    message = data[65:]
    right = hashlib.sha256(f"{KEY}\n".encode() + message).hexdigest().encode() + b"\n" + message
    for entry in (data, right):
        try:
            harmless(sealing.unseal(KEY, entry).outputs)
        except CacheError as error:
            refused(error)
        try:
            harmless(sealing.unchecked(entry).outputs)
        except CacheError as error:
            refused(error)


@given(st.data(), KEYS, OUTPUTS)
def test_signatures(data: st.DataObject, key: Digest, outputs: dict[str, Digest]) -> None:
    """None verifies that was not made, whatever its parts are."""
    (_, right) = SIGNED.signatures
    builders = mutated(st.just(right.builder.encode()), 2).map(lambda b: b.decode("latin-1"))
    signature = Signature(
        data.draw(st.just(right.builder) | builders),
        data.draw(st.just(right.signer) | mutated(st.just(right.signer), 2)),
        data.draw(st.just(right.value) | mutated(st.just(right.value), 2)),
    )
    assert signing.verifies(KEY, SIGNED, signature) == (signature == right)
    assert not signing.verifies(key, ActionResult(outputs), signature)


@given(mutated(st.sampled_from([SEALED, b"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="])))
def test_keys_in_texts(data: bytes) -> None:
    text = data.decode("latin-1")
    try:
        assert signing.write_public(signing.read_public(text)) == text.strip()
    except CacheError as error:
        refused(error)
    try:
        signing.read_private(text[:80], "VARIABLE")
    except CacheError as error:
        refused(error)


@given(st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "e/f/g"]), KEYS), st.data())
def test_directories(files: dict[str, Digest], data: st.DataObject) -> None:
    """Of which one was changed, with a digest that is right again, up to the root."""
    tree = merkle.tree(dict(files))
    chosen = data.draw(st.sampled_from(sorted(tree.blobs)))
    changed = data.draw(mutated(st.just(tree.blobs[chosen])))
    blobs = dict(tree.blobs)
    root = _changed(blobs, tree.root, chosen, changed)
    try:
        found = merkle.files(Tree(root, blobs))
    except CacheError as error:
        refused(error)
        return
    for path in found:
        merkle.check_path(path)
        assert not posixpath.normpath(path).startswith(("/", ".."))


def _changed(blobs: dict[Digest, bytes], root: Digest, chosen: Digest, changed: bytes) -> Digest:
    """Put another message in the place of one, and what follows into those above it."""
    if root == chosen:
        message = changed
    else:
        directory = reapi.Directory.FromString(blobs[root])
        for child in directory.directories:
            digest = Digest(child.digest.hash, child.digest.size_bytes)
            below = _changed(blobs, digest, chosen, changed)
            child.digest.hash, child.digest.size_bytes = below.hash, below.size
        message = directory.SerializeToString()
    digest = digests.of_bytes(message)
    blobs[digest] = message
    return digest


@given(mutated(st.just(str(KEY).encode()) | st.just(digests.encode(KEY))))
def test_digests(data: bytes) -> None:
    try:
        text = data.decode("latin-1")
        assert str(digests.parse(text)) == text
    except CacheError as error:
        refused(error)
    try:
        found = digests.decode(data)
    except CacheError as error:
        refused(error)
        return
    message = reapi.Digest.FromString(data)
    assert (found.hash, found.size) == (message.hash, message.size_bytes)


@given(mutated(RESULTS))
def test_no_message_is_read_that_protobuf_refuses(data: bytes) -> None:
    try:
        reapi.ActionResult.FromString(data)
    except DecodeError:
        try:
            decode_result(data)
        except CacheError:
            return
        raise AssertionError from None
