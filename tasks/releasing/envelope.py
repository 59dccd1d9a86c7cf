"""Signed statements: a statement on a release row in an envelope, with a signature of who publishes it.

An envelope lies beside its statement in what is published, and never in dist/: that is the same on
every machine, whoever has a key. It is one line, as bundles of attestations are (JSON Lines).

Source: https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md), with ed25519 (RFC 8032),
and https://github.com/in-toto/attestation, spec/v1/envelope.md and bundle.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import TypeVar

from cache import signing
from cache.signing import Signer
from tasks.errors import BuildError
from tasks.node import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SUFFIX = ".intoto.jsonl"

_Path = TypeVar("_Path", bound=PurePath)


def beside(statement: _Path) -> _Path:
    """Return where the envelope of a statement lies."""
    return statement.with_name(statement.stem + SUFFIX)


def sealed(statement: bytes, signer: Signer) -> bytes:
    """Return a statement in an envelope; the same for the same statement and key."""
    signature = signer.private.sign(_signed(statement))
    value = {
        "payload": _base64(statement),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": signing.write_public(signer.public), "sig": _base64(signature)}],
    }
    return (canonical_json(value) + "\n").encode()


def signers(envelope: bytes, statement: bytes, keys: Mapping[str, bytes]) -> list[str]:
    """Return which of these keys, by name, have signed a statement.

    Raises:
        BuildError: it is no envelope, or one of something else.
        CacheError: there is no package that verifies signatures.
    """
    try:
        value = json.loads(envelope)
        kind, payload = value["payloadType"], base64.b64decode(value["payload"], validate=True)
        found = [base64.b64decode(one["sig"], validate=True) for one in value["signatures"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BuildError("it is no envelope (DSSE)") from None
    if (kind, payload) != (PAYLOAD_TYPE, statement):
        raise BuildError("it is the envelope of another statement")
    data = _signed(statement)
    return [
        name for name, key in keys.items() if any(signing.is_of(key, one, data) for one in found)
    ]


def _signed(statement: bytes) -> bytes:
    """Return what is signed: DSSE's pre-authentication encoding, version 1."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
