"""Our bytes are protobuf's bytes: every message against the code generated from the .proto."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cache import digest, merkle, wire
from cache.action import Action, ActionResult, decode_result, encode, encode_result
from cache.digest import Digest
from cache.errors import CacheError, CorruptBlob
from cache.protocol import remote_execution_pb2 as reapi

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
DIGESTS = st.builds(
    Digest,
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.integers(0, (1 << 63) - 1),
)
NAMES = st.text("abcXYZ.-_é漢", min_size=1, max_size=12).filter(lambda n: n not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def as_message(value: Digest) -> reapi.Digest:
    return reapi.Digest(hash=value.hash, size_bytes=value.size)


def trees(entries: dict[str, Digest]) -> merkle.Tree | None:
    with contextlib.suppress(CacheError):
        return merkle.tree(entries)
    return None


@given(DIGESTS)
def test_digest_is_protobufs(value: Digest) -> None:
    message = as_message(value)
    assert digest.encode(value) == message.SerializeToString(deterministic=True)
    assert digest.decode(message.SerializeToString()) == value


@given(st.dictionaries(PATHS, DIGESTS, max_size=8))
def test_directories_are_canonical_protobuf(entries: dict[str, Digest]) -> None:
    tree = trees(entries)
    if tree is None:
        return
    for blob in tree.blobs.values():
        message = reapi.Directory.FromString(blob)
        assert message.SerializeToString(deterministic=True) == blob
        for nodes in (message.files, message.directories):
            names = [node.name.encode() for node in nodes]
            assert names == sorted(names)
        assert not message.symlinks


PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=4, unique_by=lambda pair: pair[0]).map(tuple)


@given(
    st.lists(TEXT, max_size=5).map(tuple),
    st.lists(NAMES, max_size=4, unique=True).map(tuple),
    PAIRS,
    PAIRS,
    st.binary(max_size=20),
)
def test_actions_are_canonical_protobuf(
    arguments: tuple[str, ...],
    output_paths: tuple[str, ...],
    platform: tuple[tuple[str, str], ...],
    environment: tuple[tuple[str, str], ...],
    salt: bytes,
) -> None:
    root = merkle.tree({"a": digest.EMPTY})
    encoded = encode(Action(arguments, root, output_paths, platform, salt, environment))
    properties = reapi.Platform(
        properties=[{"name": name, "value": value} for name, value in sorted(platform)]
    )
    command = reapi.Command(
        arguments=arguments,
        environment_variables=[{"name": n, "value": v} for n, v in sorted(environment)],
        output_paths=sorted(output_paths),
        platform=properties,
    ).SerializeToString(deterministic=True)
    action = reapi.Action(
        command_digest=as_message(digest.of_bytes(command)),
        input_root_digest=as_message(root.root),
        salt=salt,
        platform=properties,
    ).SerializeToString(deterministic=True)
    assert encoded.key == digest.of_bytes(action)
    assert encoded.blobs == {
        **root.blobs,
        digest.of_bytes(command): command,
        encoded.key: action,
    }


@given(st.dictionaries(PATHS, DIGESTS, max_size=8))
def test_results_are_canonical_protobuf(outputs: dict[str, Digest]) -> None:
    try:
        data = encode_result(ActionResult(outputs))
    except CacheError:
        return
    message = reapi.ActionResult(
        output_files=[
            {"path": path, "digest": as_message(value)} for path, value in sorted(outputs.items())
        ]
    )
    assert data == message.SerializeToString(deterministic=True)


@given(st.binary(max_size=60))
def test_parse_accepts_no_more_than_protobuf(data: bytes) -> None:
    """A message that protobuf refuses must not be read as a result."""
    try:
        result = decode_result(data)
    except CacheError:
        return
    message = reapi.ActionResult.FromString(data)
    assert {file.path: file.digest.hash for file in message.output_files} == {
        path: value.hash for path, value in result.outputs.items()
    }


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, (1 << 64) - 1) | st.binary())))
def test_unknown_fields_are_passed_over(extra: list[tuple[int, int | bytes]]) -> None:
    known = {1, 2}
    parts = [
        wire.varint(number << 3) + wire.varint(value)
        if isinstance(value, int)
        else wire.field(number, value)
        for number, value in extra
        if number not in known
    ]
    value = digest.of_bytes(b"x")
    data = b"".join(parts) + digest.encode(value)
    assert digest.decode(data) == value
    assert digest.decode(digest.encode(value) + b"".join(parts)) == value


@given(DIGESTS, DIGESTS)
def test_a_field_given_twice_is_read_as_protobuf_reads_it(one: Digest, two: Digest) -> None:
    data = digest.encode(one) + digest.encode(two)
    message = reapi.Digest.FromString(data)
    assert digest.decode(data) == Digest(message.hash, message.size_bytes)


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x05abc",  # shorter than its length
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # longer than any memory
        b"\x80",  # a tag without end
        b"\xff" * 11,  # a varint of more than ten bytes
        b"\x00\x00",  # field 0
        b"\x09abc",  # fixed 64, cut short
        b"\x0d\x00",  # fixed 32, cut short
    ],
)
def test_garbage_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptBlob):
        wire.parse(data)
    with pytest.raises(DecodeError):
        reapi.Digest.FromString(data)


def test_groups_are_refused() -> None:
    """Protobuf itself passes over them, but no message of the API ever had one."""
    with pytest.raises(CorruptBlob):
        wire.parse(b"\x0b\x0c")


@given(st.binary(max_size=40))
def test_parse_raises_nothing_else(data: bytes) -> None:
    try:
        fields = wire.parse(data)
    except CorruptBlob:
        return
    for number in fields:
        for read in (wire.message, wire.string, wire.integer):
            with contextlib.suppress(CorruptBlob):
                read(fields, number)


def test_fixed_fields_are_bytes() -> None:
    assert wire.parse(b"\x09abcdefgh\x15wxyz") == {1: [b"abcdefgh"], 2: [b"wxyz"]}
