"""Results as stores keep them: with a checksum that binds each to its action, and signatures.

A blob's name is its checksum; an action cache entry has none. A flipped bit in one could turn it
into another valid message, and so could the file of another action under its name. A store of our
own has the checksum before the message. A server wants a plain `ActionResult`, so there it is in
its `execution_metadata.auxiliary_metadata`, which other tools pass over. Whoever may write results
can also make a checksum: it finds mistakes, not lies. Against lies there are signatures
(cache/signing.py), in the same place of the message.

How long the action ran is stored with a result. On a server the checksum leaves it out: a server
may add to the metadata, or lose of it, and the outputs are the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cache import wire
from cache.action import (
    METADATA,
    ActionResult,
    Signature,
    decode_fields,
    decode_result,
    encode_result,
    encode_run,
)
from cache.digest import Digest
from cache.errors import CorruptBlob

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SIGNATURES = 16  # of a result: each costs its reader a tenth of a millisecond

_MAX_ACTION_BYTES = 1 << 16  # two digests, and names and versions of tools
_SEAL_BYTES = 65  # sha256 in hex and a newline
_AUXILIARY, _TYPE, _VALUE = 11, 1, 2  # field numbers
_BUILDER, _SIGNER, _SIGNATURE = 1, 2, 3  # of an olmill.Signature
# Types of an Any in the metadata: the checksum, a signature, and an empty mark that only a store of
# our own has, of a result that was made on this machine.
_SEAL_TYPE = b"type.googleapis.com/olmill.Seal"
_SIGNATURE_TYPE = b"type.googleapis.com/olmill.Signature"
_BUILT_TYPE = b"type.googleapis.com/olmill.BuiltHere"


def seal(key: Digest, result: ActionResult) -> bytes:
    """Return a result's entry: sha256(key, newline, message) in hex, a newline, the message.

    Raises:
        CacheError: a result that `encode_result` refuses.
    """
    built = [] if result.fetched else [(_BUILT_TYPE, b"")]
    message = encode_result(result) + _metadata(result, [*_signed(result), *built])
    return _seal_of(key, message) + message


def unseal(key: Digest, entry: bytes) -> ActionResult:
    """Return the result in an action's entry.

    Raises:
        CacheError: the entry was damaged, is another action's, or is one that `decode_result`
            refuses.
    """
    message = entry[_SEAL_BYTES:]
    if entry[:_SEAL_BYTES] != _seal_of(key, message):
        raise CorruptBlob(f"result {key}: damaged, or another action's")
    fields = wire.parse(message)
    metadata = _decode(fields)
    built = (_BUILT_TYPE, b"") in metadata
    return decode_fields(fields, _signatures(metadata), fetched=not built)


def unchecked(entry: bytes) -> ActionResult:
    """Return the result in an entry of an unknown action: its checksum says nothing without that.

    Raises:
        CacheError: one that `decode_result` refuses.
    """
    return decode_result(entry[_SEAL_BYTES:])


def is_whole(name: str, entry: bytes, sizes: list[int]) -> bool:
    """Return whether an entry is as it was made for the action with this sha256.

    An action's size is in the checksum, and not in the name of the entry, so it is found by trying.
    sizes: those found so far, to be tried first; the one found is added.
    """
    message = entry[_SEAL_BYTES:]
    for size in (*sizes, *range(1, _MAX_ACTION_BYTES)):
        if entry[:_SEAL_BYTES] == _seal_of(Digest(name, size), message):
            if size not in sizes:
                sizes.append(size)
            return True
    return False


def seal_message(key: Digest, result: ActionResult) -> bytes:
    """Return a result as an `ActionResult` for a server: checksum and signatures are metadata.

    Raises:
        CacheError: a result that `encode_result` refuses.
    """
    message = encode_result(result)
    seal = (_SEAL_TYPE, _seal_of(key, message))
    return message + _metadata(result, [seal, *_signed(result)])


def unseal_message(key: Digest, message: bytes) -> ActionResult:
    """Return the result in an untrusted message of a server, with signatures that nobody verified.

    Raises:
        CacheError: it has no checksum, or that of another action or other outputs, a signature
            that cannot be one, or is a message that `decode_result` refuses.
    """
    fields = wire.parse(message)
    metadata = _decode(fields)
    result = decode_fields(fields, _signatures(metadata), fetched=True)
    if (_SEAL_TYPE, _seal_of(key, encode_result(result))) not in metadata:
        raise CorruptBlob(f"result {key}: not sealed for this action")
    return result


def _seal_of(key: Digest, message: bytes) -> bytes:
    return hashlib.sha256(f"{key}\n".encode() + message).hexdigest().encode() + b"\n"


def _metadata(result: ActionResult, entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the field `execution_metadata`: types with their values, and the run; or nothing."""
    values = b"".join(
        wire.field(_AUXILIARY, wire.field(_TYPE, kind) + wire.field(_VALUE, value))
        for kind, value in entries
    )
    fields = values + encode_run(result)
    return wire.field(METADATA, fields) if fields else b""


def _decode(fields: wire.Fields) -> list[tuple[bytes, bytes]]:
    metadata = wire.parse(wire.message(fields, METADATA))
    values = map(wire.parse, wire.messages(metadata, _AUXILIARY))
    return [(wire.message(value, _TYPE), wire.message(value, _VALUE)) for value in values]


def _signed(result: ActionResult) -> list[tuple[bytes, bytes]]:
    return [
        (
            _SIGNATURE_TYPE,
            wire.field(_BUILDER, one.builder.encode())
            + wire.field(_SIGNER, one.signer)
            + wire.field(_SIGNATURE, one.value),
        )
        for one in result.signatures
    ]


def _signatures(metadata: Iterable[tuple[bytes, bytes]]) -> tuple[Signature, ...]:
    found = [wire.parse(value) for kind, value in metadata if kind == _SIGNATURE_TYPE]
    if len(found) > MAX_SIGNATURES:
        raise CorruptBlob(f"a result with more than {MAX_SIGNATURES} signatures")
    return tuple(map(_signature, found))


def _signature(fields: wire.Fields) -> Signature:
    found = Signature(
        wire.string(fields, _BUILDER),
        wire.message(fields, _SIGNER),
        wire.message(fields, _SIGNATURE),
    )
    if not found.is_well_formed():
        raise CorruptBlob("a result with a signature that is none")
    return found
