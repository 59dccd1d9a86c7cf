"""What is signed, byte for byte as docs/trust.md says, and which keys are taken for keys."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given

from cache import digest as digests
from cache import sealing, signing
from cache.action import ActionResult, Signature
from cache.errors import CacheError
from cache.signing import Signer
from tests.cache.signers import BUILDERS, KEYS, OUTPUTS, SEED, signer

GOLDEN = Path(__file__).parents[1] / "golden" / "signatures.json"
PLACE = "OLMILL_SIGNING_KEY"
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
BASE64 = base64.b64encode(SEED).decode()


def expected(example: dict[str, Any]) -> dict[str, str]:
    key = digests.parse(example["key"])
    outputs = {path: digests.of_bytes(text.encode()) for path, text in example["outputs"].items()}
    result = ActionResult(outputs)
    signature = signer(example["builder"]).sign(key, result)
    signed = ActionResult(outputs, signatures=(signature,))
    return {
        "statement": signing.statement(key, result, example["builder"]).decode(),
        "signer": signing.write_public(signature.signer),
        "signature": signature.value.hex(),
        "message": sealing.seal_message(key, signed).hex(),
    }


def test_signatures_are_golden() -> None:
    """A change here means that nobody believes what was signed before: never by accident."""
    golden = json.loads(GOLDEN.read_text())
    if os.environ.get("OLMILL_UPDATE_GOLDEN") == "1":
        for example in golden:
            example["expected"] = expected(example)
        GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
        pytest.skip("the golden signatures are new: look at the difference")
    for example in golden:
        assert expected(example) == example["expected"]


def test_the_key_of_the_golden_signatures_is_that_of_rfc_8032() -> None:
    """Section 7.1, test 1."""
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signing.public_of(PRIVATE).hex() == public


@given(KEYS, OUTPUTS, BUILDERS)
def test_a_statement_says_one_thing(
    key: digests.Digest, outputs: dict[str, digests.Digest], builder: str
) -> None:
    """It can be read back, so no two have the same bytes."""
    text = signing.statement(key, ActionResult(outputs), builder).decode()
    domain, key_line, builder_line, *lines, rest = text.split("\n")
    assert (domain, rest) == ("olmill-result-1", "")
    assert digests.parse(key_line.removeprefix("key ")) == key
    assert builder_line.removeprefix("builder ") == builder
    found = [line.split(" ", 2) for line in lines]
    assert {kind for kind, _, _ in found} == {"output"}
    assert [(path, digests.parse(digest)) for _, digest, path in found] == sorted(outputs.items())


@pytest.mark.parametrize(
    "builder", ["", " ", "a\nb", "a b", "-a", "ä", "a" * 101, "a\0", "a\noutput x"]
)
def test_no_other_names_are_those_of_builders(builder: str) -> None:
    key, result = digests.of_bytes(b"key"), ActionResult({"a": digests.EMPTY})
    with pytest.raises(CacheError, match="not the name of a builder"):
        signing.check_builder(builder)
    with pytest.raises(CacheError):
        signing.statement(key, result, builder)
    assert not signing.verifies(key, result, Signature(builder, bytes(32), bytes(64)))


@pytest.mark.parametrize(
    "text", [PEM, PEM.strip(), BASE64, f" {BASE64}\n", PEM.replace("\n", "\r\n")]
)
def test_a_private_key_in_a_text_or_in_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a key"
    file.write_bytes(text.encode())
    for given_ in (text, str(file), f"{file}\n"):
        private = signing.read_private(given_, PLACE)
        assert private.private_bytes_raw() == SEED


def encrypted() -> str:
    how = serialization.BestAvailableEncryption(b"password")
    form = serialization.PrivateFormat.PKCS8
    return PRIVATE.private_bytes(serialization.Encoding.PEM, form, how).decode()


def of_another_kind() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form, how = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, how).decode()


NO_KEYS = {
    "nothing": ("", "neither"),
    "no such file": ("/no/such/file", "neither .* nor .*: No such file or directory"),
    "too short": (BASE64[:40], "neither"),
    "too long": (base64.b64encode(SEED * 2).decode(), "neither"),
    "another spelling": (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "neither"),
    "loose bits": (BASE64[:42] + "B=", "neither"),
    "zero": ("a\0b", "neither"),
    "nobody's home": ("~nobody-has-this-name/key", "neither"),
    "not ASCII": ("ü" * 44, "neither"),
    "broken PEM": (PEM[:60] + PEM[61:], "not an ed25519"),
    "public": (
        PRIVATE.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        "not an ed25519",
    ),
    "encrypted": (encrypted(), "has a password"),
    "of another kind": (of_another_kind(), "of another kind"),
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_what_is_no_private_key_is_refused_and_not_shown(tmp_path: Path, name: str) -> None:
    text, told = NO_KEYS[name]
    file = tmp_path / "a key"
    file.write_text(text)
    for given_, words in ((text, told), (str(file), "" if told.startswith("neither") else told)):
        with pytest.raises(CacheError, match=f"{PLACE}: .*{words}") as caught:
            signing.read_private(given_, PLACE)
        assert caught.value.hint
        shown = f"{caught.value} {caught.value.hint}"
        assert not text or text[:20] not in shown
        assert BASE64[:20] not in shown


def test_a_key_is_in_no_text() -> None:
    shown = repr(Signer("ci", signing.public_of(PRIVATE), PRIVATE))
    assert "private" not in shown.lower()
    assert BASE64[:20] not in shown


def test_a_new_key_is_a_key() -> None:
    pem = signing.make_private().decode()
    assert pem != signing.make_private().decode()
    public = signing.public_of(signing.read_private(pem, PLACE))
    assert signing.read_public(signing.write_public(public)) == public


@pytest.mark.parametrize("text", ["", "x", BASE64 + "A", BASE64[:-1], "-" * 44, "é" * 44])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(CacheError, match="not an ed25519 public key") as caught:
        signing.read_public(text)
    assert caught.value.hint


def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "find_spec", lambda _: None)
    key, result = digests.of_bytes(b"key"), ActionResult({"a": digests.EMPTY})
    with pytest.raises(CacheError, match="the package cryptography") as caught:
        signing.verifies(key, result, Signature("a", bytes(32), bytes(64)))
    assert caught.value.hint == "run: python3 bootstrap.py trust"
