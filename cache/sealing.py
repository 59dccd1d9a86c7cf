"""Results as a store of ours keeps them: with a checksum that binds each to its action.

A blob's name is its checksum; an action cache entry has none. A flipped bit in one could turn it
into another valid message, and so could the file of another action under its name.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cache.action import ActionResult, decode_result, encode_result
from cache.errors import CorruptBlob

if TYPE_CHECKING:
    from cache.digest import Digest

_SEAL_BYTES = 65  # sha256 in hex and a newline


def seal(key: Digest, result: ActionResult) -> bytes:
    """Return a result's entry: sha256(key, newline, message) in hex, a newline, the message.

    Raises:
        CacheError: a result that `encode_result` refuses.
    """
    message = encode_result(result)
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


def _seal_of(key: Digest, message: bytes) -> bytes:
    return hashlib.sha256(f"{key}\n".encode() + message).hexdigest().encode() + b"\n"
