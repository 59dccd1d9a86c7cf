"""Results as stores keep them: with a checksum that binds each to its action.

A blob's name is its checksum; an action cache entry has none. A flipped bit in one could turn it
into another valid message, and so could the file of another action under its name. A store of our
own has the checksum before the message. A server wants a plain `ActionResult`, so there it is in
its `execution_metadata.auxiliary_metadata`, which other tools pass over. Whoever may write results
can also make a checksum: it finds mistakes, not lies.

How long the action ran is stored with a result. On a server the checksum leaves it out: a server
may add to the metadata, or lose of it, and the outputs are the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cache import wire
from cache.action import METADATA, ActionResult, decode_result, encode_result, encode_run
from cache.errors import CorruptBlob

if TYPE_CHECKING:
    from cache.digest import Digest

_SEAL_BYTES = 65  # sha256 in hex and a newline
_AUXILIARY, _TYPE, _VALUE = 11, 1, 2  # field numbers
_SEAL_TYPE = b"type.googleapis.com/olmill.Seal"  # of an Any, whose value is the checksum


def seal(key: Digest, result: ActionResult) -> bytes:
    """Return a result's entry: sha256(key, newline, message) in hex, a newline, the message.

    Raises:
        CacheError: a result that `encode_result` refuses.
    """
    run = encode_run(result)
    message = encode_result(result) + (wire.field(METADATA, run) if run else b"")
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
    return decode_result(message)


def unchecked(entry: bytes) -> ActionResult:
    """Return the result in an entry of an unknown action: its checksum says nothing without that.

    Raises:
        CacheError: one that `decode_result` refuses.
    """
    return decode_result(entry[_SEAL_BYTES:])


def seal_message(key: Digest, result: ActionResult) -> bytes:
    """Return a result as an `ActionResult` for a server, with the checksum as metadata.

    Raises:
        CacheError: a result that `encode_result` refuses.
    """
    message = encode_result(result)
    seal = wire.field(_TYPE, _SEAL_TYPE) + wire.field(_VALUE, _seal_of(key, message))
    return message + wire.field(METADATA, wire.field(_AUXILIARY, seal) + encode_run(result))


def unseal_message(key: Digest, message: bytes) -> ActionResult:
    """Return the result in an untrusted message of a server.

    Raises:
        CacheError: it has no checksum, or that of another action or other outputs, or is one that
            `decode_result` refuses.
    """
    result = decode_result(message)
    metadata = wire.parse(wire.message(wire.parse(message), METADATA))
    seals = map(wire.parse, wire.messages(metadata, _AUXILIARY))
    expected = _seal_of(key, encode_result(result))
    if not any(
        wire.message(seal, _TYPE) == _SEAL_TYPE and wire.message(seal, _VALUE) == expected
        for seal in seals
    ):
        raise CorruptBlob(f"result {key}: not sealed for this action")
    return result


def _seal_of(key: Digest, message: bytes) -> bytes:
    return hashlib.sha256(f"{key}\n".encode() + message).hexdigest().encode() + b"\n"
