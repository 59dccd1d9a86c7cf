"""What is to be done and what came of it: Remote Execution API v2 Actions and ActionResults.

The sha256 of an encoded Action is the key under which every store remembers its result. The
grammar of the key, and why each part is in it, is docs/keys.md.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from cache import digest as digests
from cache import merkle, wire
from cache.errors import CacheError, CorruptBlob, InvalidPath

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cache.digest import Digest
    from cache.merkle import Tree


# The name of a builder: in signatures, in tables, on terminals.
BUILDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,99}", re.ASCII)
METADATA = 9  # field of an ActionResult: its ExecutedActionMetadata
_RUN_START, _RUN_END, _RUN_TIME = 7, 8, 12  # fields of that
_NANOS = 10**9
_SHORT = 512  # bytes of a message that is remembered with what it says
_LONGEST_RUN = 10 * 366 * 86400  # seconds; what says more is no duration


@dataclass(frozen=True)
class Action:
    """One deterministic command over one input tree: all that its result may depend on.

    arguments: the command line. input_root: the files it sees. output_paths: the files or
    directories it makes, relative to where it runs. platform: (name, value) pairs that its result
    depends on beside its inputs. salt: the version of the caller's key schema. environment:
    (name, value) pairs that are set for it. The last four are sets: their order is no part of
    the action.
    """

    arguments: tuple[str, ...]
    input_root: Tree
    output_paths: tuple[str, ...]
    platform: tuple[tuple[str, str], ...]
    salt: bytes
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EncodedAction:
    """An action's key, and the messages it stands for: Action, Command and Directories."""

    key: Digest
    blobs: Mapping[Digest, bytes]


@dataclass(frozen=True)
class Signature:
    """What vouches for a result (cache/signing.py): claims, until somebody verifies them.

    builder: the name of who made the result. signer: an ed25519 public key, 32 bytes. value: the
    signature by it, 64 bytes.
    """

    builder: str
    signer: bytes
    value: bytes

    def is_well_formed(self) -> bool:
        """Return whether each part could be what it is said to be, and shown to people."""
        sizes = (len(self.signer), len(self.value))
        return sizes == (32, 64) and BUILDER.fullmatch(self.builder) is not None


@dataclass(frozen=True)
class ActionResult:
    """The files a successful action made, by path relative to where it ran, sorted.

    seconds: how long it ran, None if nobody said. signatures: what came with the result. fetched:
    whether it came from elsewhere, rather than from running the action. All this is about that run
    and no part of the result.
    """

    outputs: Mapping[str, Digest]
    seconds: float | None = field(default=None, compare=False)
    signatures: tuple[Signature, ...] = field(default=(), compare=False)
    fetched: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", dict(sorted(self.outputs.items())))


def encode(action: Action) -> EncodedAction:
    """Return the key and the canonical messages of an action.

    Raises:
        InvalidPath: an output path is not canonical, or lies inside another one.
        CacheError: a text is not Unicode, or an output path, a platform property or an
            environment variable is given twice.
    """
    try:
        platform, command = _command(
            action.arguments, action.environment, action.platform, action.output_paths
        )
    except UnicodeEncodeError as error:
        raise CacheError(f"an action may hold Unicode text only, not {error.object!r}") from None
    command_digest = digests.of_bytes(command)
    message = b"".join(
        (
            wire.field(1, digests.encode(command_digest)),
            wire.field(2, digests.encode(action.input_root.root)),
            wire.field(9, action.salt) if action.salt else b"",
            wire.field(10, platform),
        )
    )
    key = digests.of_bytes(message)
    return EncodedAction(key, {**action.input_root.blobs, command_digest: command, key: message})


@lru_cache(maxsize=256)  # actions of a build differ in their inputs most of all
def _command(
    arguments: tuple[str, ...],
    environment: tuple[tuple[str, str], ...],
    platform: tuple[tuple[str, str], ...],
    output_paths: tuple[str, ...],
) -> tuple[bytes, bytes]:
    """Return an action's Platform and its Command, encoded."""
    properties = _pairs(1, "platform property", platform)
    variables = _pairs(2, "environment variable", environment)
    command = b"".join(
        (
            *(wire.field(1, argument.encode()) for argument in arguments),
            variables,
            # Servers older than REAPI 2.2 read the platform here, newer ones in the Action.
            wire.field(5, properties),
            *(wire.field(7, path.encode()) for path in _output_paths(output_paths)),
        )
    )
    return properties, command


def encode_result(result: ActionResult) -> bytes:
    """Return a result as a canonical `ActionResult` message: its outputs, and nothing of the run.

    Raises:
        InvalidPath: an output path that `decode_result` would refuse.
        CorruptBlob: there are no outputs.
    """
    _check_outputs(result.outputs)
    return b"".join(
        wire.field(2, wire.field(1, path.encode()) + wire.field(2, digests.encode(digest)))
        for path, digest in result.outputs.items()
    )


def encode_run(result: ActionResult) -> bytes:
    """Return how long the action ran as fields of an `ExecutedActionMetadata`, empty if unknown."""
    if result.seconds is None:
        return b""
    seconds, nanos = divmod(round(result.seconds * 1e9), _NANOS)
    return wire.field(_RUN_TIME, wire.unsigned(1, seconds) + wire.unsigned(2, nanos))


def decode_result(data: bytes) -> ActionResult:
    """Return the result in an untrusted message.

    Of how the action ran, only for how long is read, and only where that makes sense: its
    `virtual_execution_duration`, else the time between start and end of its execution. Logs and
    worker are ignored, and so are the executable bits of its outputs.

    Raises:
        CorruptBlob: no `ActionResult`, or that of a failed action, or one without outputs, with
            output directories (whose files are not known from it), or with a malformed digest.
        InvalidPath: an output path is not canonical, is given twice, lies inside another one,
            differs from another one in case only, or is a symlink.
    """
    return decode_fields(wire.parse(data))


def decode_fields(
    fields: wire.Fields, signatures: tuple[Signature, ...] = (), *, fetched: bool = False
) -> ActionResult:
    """Return what `decode_result` does, from the message's fields, with what came beside it."""
    exit_code = wire.integer(fields, 4)
    if exit_code != 0:
        raise CorruptBlob(f"the result of a failed action (exit code {exit_code})")
    if 3 in fields:
        raise CorruptBlob("the result names output directories instead of their files")
    if not fields.keys().isdisjoint((10, 11, 12)):
        raise InvalidPath("an output is a symlink")
    outputs: dict[str, Digest] = {}
    for message in wire.messages(fields, 2):
        path, digest = (_known_output if len(message) <= _SHORT else _output)(message)
        if path in outputs:
            raise InvalidPath(f"output {path[:200]!r} is given twice")
        outputs[path] = digest
    _check_together(outputs)
    return ActionResult(outputs, _seconds(fields), signatures, fetched)


def _output(message: bytes) -> tuple[str, Digest]:
    """Return path and digest in an untrusted `OutputFile` message."""
    file = wire.parse(message)
    path = wire.string(file, 1)
    merkle.check_path(path)
    return path, digests.decode(wire.message(file, 2))


# Rows of a release that have the same weights follow each other.
_known_output = lru_cache(maxsize=1 << 12)(_output)


def _seconds(fields: wire.Fields) -> float | None:
    """Return how long an action ran by its metadata, None if that is absent or senseless."""
    try:
        metadata = wire.parse(wire.message(fields, METADATA))
        if _RUN_TIME in metadata:
            found = _nanos(metadata, _RUN_TIME)
        elif _RUN_START in metadata and _RUN_END in metadata:
            found = _nanos(metadata, _RUN_END) - _nanos(metadata, _RUN_START)
        else:
            return None
    except CorruptBlob:
        return None
    return found / _NANOS if 0 <= found <= _LONGEST_RUN * _NANOS else None


def _nanos(fields: wire.Fields, number: int) -> int:
    """Return a google.protobuf Duration or Timestamp in nanoseconds."""
    parts = wire.parse(wire.message(fields, number))
    return wire.integer(parts, 1) * _NANOS + wire.integer(parts, 2)


def _check_outputs(outputs: Collection[str]) -> None:
    """Refuse outputs whose paths are not canonical, and what `_check_together` refuses."""
    for path in outputs:
        merkle.check_path(path)
    _check_together(outputs)


def _check_together(outputs: Collection[str]) -> None:
    """Refuse outputs that could not all exist, each under its own name, on every file system.

    No outputs at all are refused, too: the empty message would be such a result, and a store
    that lost the bytes of an entry could serve it for any action.
    """
    if not outputs:
        raise CorruptBlob("a result without outputs")
    spelled: dict[str, str] = {}  # outputs and directories, as a file system may fold them
    directories: set[str] = set()
    for path in outputs:
        part = path
        while part and part not in directories:
            other = spelled.setdefault(_folded(part), part)
            if other != part:
                raise InvalidPath(f"outputs {other[:200]!r} and {part[:200]!r} differ in case only")
            if part is not path:
                directories.add(part)
            part = part.rpartition("/")[0]
    for path in outputs:
        if path in directories:
            raise InvalidPath(f"output {path[:200]!r} is a file and a directory at once")


def _folded(path: str) -> str:
    """Return one spelling for all that a case-insensitive, normalising file system equates."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _output_paths(paths: tuple[str, ...]) -> list[str]:
    ordered = sorted(paths)
    for path in ordered:
        merkle.check_path(path)
    for path, following in itertools.pairwise(ordered):
        if path == following:
            raise CacheError(f"output path {path!r} is given twice")
    for path in ordered:
        above = path.rpartition("/")[0]
        while above:
            if above in paths:
                raise InvalidPath(f"output path {path!r} lies inside output path {above!r}")
            above = above.rpartition("/")[0]
    return ordered


def _pairs(number: int, what: str, pairs: tuple[tuple[str, str], ...]) -> bytes:
    """Return (name, value) pairs as repeated messages: platform properties or variables."""
    ordered = sorted(pairs)
    for (name, _), (following, _) in itertools.pairwise(ordered):
        if name == following:
            raise CacheError(f"{what} {name!r} is given twice")
    return b"".join(
        wire.field(number, b"".join((_text(1, name), _text(2, value)))) for name, value in ordered
    )


def _text(number: int, text: str) -> bytes:
    return wire.field(number, text.encode()) if text else b""
