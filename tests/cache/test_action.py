from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import digest, merkle, wire
from cache.action import (
    METADATA,
    Action,
    ActionResult,
    decode_result,
    encode,
    encode_result,
    encode_run,
)
from cache.digest import Digest
from cache.errors import CacheError, CorruptBlob, InvalidPath
from cache.protocol import remote_execution_pb2 as reapi

A, B = digest.of_bytes(b"a"), digest.of_bytes(b"b")
ACTION = Action(
    arguments=("python", "-m", "tasks.actions", "convert"),
    input_root=merkle.tree({"params.json": A, "inputs/config.json": B}),
    output_paths=("outputs",),
    platform=(("apache-tvm", "0.27.0.post1"), ("numpy", "2.5.1")),
    salt=b"key-1",
    environment=(("LANG", "C"),),
)


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": ("python", "-m", "tasks.actions", "lower")},
        {"arguments": ("python", "-m", "tasks.actions", "convert", "")},
        {"input_root": merkle.tree({"params.json": B, "inputs/config.json": B})},
        {"input_root": merkle.tree({"params.jsonx": A, "inputs/config.json": B})},
        {"output_paths": ("outputs", "statistics.json")},
        {"platform": (("apache-tvm", "0.27.0.post2"), ("numpy", "2.5.1"))},
        {"platform": (("apache-tvm", "0.27.0.post1"),)},
        {"platform": (("apache-tvm0", ".27.0.post1"), ("numpy", "2.5.1"))},
        {"salt": b"key-2"},
        {"salt": b""},
        {"environment": ()},
        {"environment": (("LANG", "de"),)},
    ],
)
def test_every_part_is_in_the_key(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(ACTION, **change)
    assert encode(changed).key != encode(ACTION).key


def test_the_order_of_sets_is_not() -> None:
    shuffled = dataclasses.replace(
        ACTION,
        platform=ACTION.platform[::-1],
        output_paths=("z", "a"),
        environment=(("B", "1"), ("A", "2")),
    )
    ordered = dataclasses.replace(
        shuffled, output_paths=("a", "z"), environment=(("A", "2"), ("B", "1"))
    )
    assert encode(shuffled) == encode(ordered)


def test_an_encoded_action_holds_all_its_messages() -> None:
    encoded = encode(ACTION)
    action = reapi.Action.FromString(encoded.blobs[encoded.key])
    command = reapi.Command.FromString(
        encoded.blobs[Digest(action.command_digest.hash, action.command_digest.size_bytes)]
    )
    root = Digest(action.input_root_digest.hash, action.input_root_digest.size_bytes)
    assert tuple(command.arguments) == ACTION.arguments
    assert tuple(command.output_paths) == ACTION.output_paths
    assert action.platform == command.platform
    assert root == ACTION.input_root.root
    assert encoded.blobs.keys() > ACTION.input_root.blobs.keys()
    for name, data in encoded.blobs.items():
        assert digest.of_bytes(data) == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_paths": ("../x",)}, "holds"),
        ({"output_paths": ("/x",)}, "absolute"),
        ({"output_paths": ("x", "x")}, "given twice"),
        ({"output_paths": ("x", "x/y")}, "inside"),
        ({"output_paths": ("x", "x-y", "x/y")}, "inside"),
        ({"platform": (("a", "1"), ("a", "2"))}, "platform property 'a' is given twice"),
        ({"environment": (("a", "1"), ("a", "1"))}, "environment variable 'a' is given twice"),
        ({"arguments": ("\udcff",)}, "Unicode"),
        ({"platform": (("a", "\udcff"),)}, "Unicode"),
    ],
)
def test_a_senseless_action_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheError, match=message):
        encode(dataclasses.replace(ACTION, **change))


NAMES = st.sampled_from(["a", "b", "c.bin", "é", "漢"])
OUTPUTS = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.sampled_from([A, B]),
    min_size=1,
    max_size=8,
).filter(lambda paths: not any(other.startswith(path + "/") for path in paths for other in paths))


@given(OUTPUTS)
def test_result_round_trip(outputs: dict[str, Digest]) -> None:
    result = ActionResult(outputs)
    assert list(result.outputs) == sorted(outputs)
    assert decode_result(encode_result(result)) == result
    assert encode_result(ActionResult(dict(reversed(outputs.items())))) == encode_result(result)


def file(path: str, value: Digest = A) -> dict[str, Any]:
    return {"path": path, "digest": {"hash": value.hash, "size_bytes": value.size}}


def message(**fields: Any) -> bytes:
    return reapi.ActionResult(**fields).SerializeToString()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"output_files": [file("../x")]}, "holds"),
        ({"output_files": [file("a/../../x")]}, "holds"),
        ({"output_files": [file("/etc/passwd")]}, "absolute"),
        ({"output_files": [file("")]}, "empty"),
        ({"output_files": [file("a\\b")]}, "backslash"),
        ({"output_files": [file("a\0b")]}, "control"),
        ({"output_files": [file("a"), file("a")]}, "given twice"),
        ({"output_files": [file("a"), file("a", B)]}, "given twice"),
        ({"output_files": [file("a"), file("a/b")]}, "at once"),
        ({"output_files": [file("x/a/b"), file("x/a")]}, "at once"),
        ({"output_files": [file("a"), file("A")]}, "case only"),
        ({"output_files": [file("d/a"), file("D/b")]}, "case only"),
        ({"output_files": [file("ß"), file("SS")]}, "case only"),
        ({"output_files": [file("\u00e9"), file("e\u0301")]}, "case only"),
        ({"output_files": [file("a")], "output_symlinks": [{"path": "b"}]}, "symlink"),
        ({"output_files": [file("a")], "output_file_symlinks": [{"path": "b"}]}, "symlink"),
        ({"output_files": [file("a")], "output_directory_symlinks": [{"path": "b"}]}, "symlink"),
    ],
)
def test_a_result_may_not_escape(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidPath, match=reason):
        decode_result(message(**fields))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "without outputs"),
        (message(output_files=[file("a")], exit_code=1), "failed action"),
        (message(output_files=[file("a")], exit_code=-1), "failed action"),
        (message(output_files=[file("a")], output_directories=[{"path": "b"}]), "directories"),
        (message(output_files=[{"path": "a"}]), "not a digest"),
        (
            message(output_files=[{"path": "a", "digest": {"hash": "a" * 64, "size_bytes": -1}}]),
            "digest",
        ),
        (
            message(output_files=[{"path": "a", "digest": {"hash": "../x", "size_bytes": 1}}]),
            "digest",
        ),
        (message(output_files=[file("a")])[:-1], "not a message"),
        (b"garbage", "not a message"),
    ],
)
def test_a_result_must_be_one(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptBlob, match=reason):
        decode_result(data)


def test_what_is_not_the_result_is_ignored() -> None:
    """Workers add their logs, names, times and modes, all in fields that mean nothing here."""
    data = message(output_files=[{**file("a"), "is_executable": True}])
    data += b"\x2a\x03log" + b"\x4a\x06worker" + b"\x32\x02\x0a\x00"
    assert decode_result(data) == ActionResult({"a": A})


def ran(*fields: bytes) -> float | None:
    """Seconds by an `ExecutedActionMetadata` of these fields."""
    message = encode_result(ActionResult({"a": A}))
    return decode_result(message + wire.field(METADATA, b"".join(fields))).seconds


def at(number: int, seconds: int, nanos: int = 0) -> bytes:
    """A Duration or Timestamp."""
    return wire.field(number, wire.unsigned(1, seconds) + wire.unsigned(2, nanos))


@given(st.floats(0, 1e8) | st.none())
def test_how_long_it_ran_is_beside_the_result(seconds: float | None) -> None:
    result = ActionResult({"a": A}, seconds)
    assert encode_result(result) == encode_result(ActionResult({"a": A}))
    found = ran(encode_run(result))
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


def test_how_long_it_ran_by_the_times_of_a_worker() -> None:
    start, end = at(7, 1_700_000_000, 500_000_000), at(8, 1_700_000_012)
    assert ran(start, end) == 11.5
    assert ran(start, end, at(12, 3)) == 3.0
    assert ran(start) is ran(end) is ran() is None


@pytest.mark.parametrize(
    "senseless",
    [
        at(7, 2) + at(8, 1),
        at(12, (1 << 64) - 1),
        at(12, 1 << 40),
        b"\x60\x01",
        wire.field(12, b"garbage"),
        wire.field(12, wire.field(1, b"")),
        b"garbage",
    ],
)
def test_a_senseless_time_is_none(senseless: bytes) -> None:
    assert ran(senseless) is None


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    try:
        result = decode_result(data)
    except CacheError:
        return
    assert decode_result(encode_result(result)) == result


@given(OUTPUTS, st.data())
def test_a_flipped_bit_raises_nothing_else(outputs: dict[str, Digest], data: st.DataObject) -> None:
    encoded = bytearray(encode_result(ActionResult(outputs)))
    position = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[position // 8] ^= 1 << position % 8
    try:
        result = decode_result(bytes(encoded))
    except CacheError:
        return
    for path in result.outputs:
        merkle.check_path(path)
