"""Statements in envelopes: who signed them is known, and nothing else is taken for signed."""

import base64
import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BuildError
from tasks.releasing.envelope import PAYLOAD_TYPE, beside, sealed, signers
from tests.cache.signers import another, signer

CI, OTHER = signer("ci"), another("other")
KEYS = {"ci": CI.public, "other": OTHER.public}
STATEMENT = b'{"_type":"https://in-toto.io/Statement/v1"}\n'


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(sealed(STATEMENT, CI)), **fields}).encode()


def signature_over(data: bytes) -> list[dict[str, str]]:
    return [{"sig": base64.b64encode(CI.private.sign(data)).decode()}]


def test_an_envelope_is_what_the_specification_says() -> None:
    """Its signature is verified without our code, over bytes that are written out."""
    text = sealed(STATEMENT, CI)
    assert text == sealed(STATEMENT, CI)
    assert text.count(b"\n") == 1
    value = json.loads(text)
    assert value.keys() == {"payload", "payloadType", "signatures"}
    assert base64.b64decode(value["payload"]) == STATEMENT
    (one,) = value["signatures"]
    signed = b"DSSEv1 28 application/vnd.in-toto+json 44 " + STATEMENT
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(one["keyid"]))
    public.verify(base64.b64decode(one["sig"]), signed)


@given(st.binary(max_size=200))
def test_who_signed_is_known(statement: bytes) -> None:
    assert signers(sealed(statement, CI), statement, KEYS) == ["ci"]
    assert signers(sealed(statement, CI), statement, {"other": OTHER.public}) == []
    assert signers(sealed(statement, CI), statement, {}) == []


def test_several_signatures() -> None:
    both = [json.loads(sealed(STATEMENT, one))["signatures"][0] for one in (OTHER, CI)]
    assert signers(changed(signatures=both), STATEMENT, KEYS) == ["ci", "other"]
    assert signers(changed(signatures=[]), STATEMENT, KEYS) == []


def test_the_name_of_a_key_in_it_proves_nothing() -> None:
    (one,) = json.loads(sealed(STATEMENT, OTHER))["signatures"]
    lying = changed(
        signatures=[{**one, "keyid": json.loads(sealed(STATEMENT, CI))["signatures"][0]["keyid"]}]
    )
    assert signers(lying, STATEMENT, {"ci": CI.public}) == []


@pytest.mark.parametrize(
    "data", [STATEMENT, b"olmill-result-1\n" + STATEMENT, b"DSSEv1 4 text 44 " + STATEMENT]
)
def test_what_a_key_has_signed_otherwise_is_no_envelope(data: bytes) -> None:
    assert signers(changed(signatures=signature_over(data)), STATEMENT, KEYS) == []


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        sealed(STATEMENT, CI) * 2,
        changed(payload="!"),
        changed(payload=1),
        changed(signatures=None),
        changed(signatures=["x"]),
        changed(signatures=[{"sig": "é"}]),
        changed(payloadType=None),
        changed(payloadType="text/plain"),
        sealed(STATEMENT + b" ", CI),
    ],
)
def test_what_is_no_envelope_of_a_statement(wrong: bytes) -> None:
    with pytest.raises(BuildError, match=r"no envelope|of another statement"):
        signers(wrong, STATEMENT, KEYS)


def test_it_lies_beside_its_statement() -> None:
    place = PurePosixPath("provenance/olmo-1.5-q0f32.json")
    assert beside(place) == PurePosixPath("provenance/olmo-1.5-q0f32.intoto.jsonl")
    assert PAYLOAD_TYPE == "application/vnd.in-toto+json"
