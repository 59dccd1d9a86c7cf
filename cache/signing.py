"""Signatures of results: ed25519 over an action's key, its outputs and the name of its builder.

docs/trust.md is the grammar of what is signed. Each signature is for one key: nothing that was
signed for one action says anything of another. Source of the algorithm: RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
import stat
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cache.action import BUILDER, Signature, encode_result
from cache.errors import CacheError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from cache.action import ActionResult
    from cache.digest import Digest

DOMAIN = "olmill-result-1"  # in no other kind of message, and another one when the grammar changes
KEY_BYTES = 32

_MAX_FILE = 1 << 16  # bytes of a file with a private key
_FORMS = "an ed25519 private key (PEM, or its 32 bytes in base64)"
_MAKE = "make one: doit cache keygen FILE"


@dataclass(frozen=True)
class Signer:
    """Who signs: the name of the builder, its public key, and the private one, which is shown nowhere."""

    builder: str
    public: bytes
    private: Ed25519PrivateKey = field(repr=False)

    def sign(self, key: Digest, result: ActionResult, builder: str | None = None) -> Signature:
        """Return a signature for a result of an action, made by `builder`, or else by the signer.

        Raises:
            CacheError: a result that `encode_result` refuses, or a name that `check_builder` does.
        """
        builder = builder or self.builder
        return Signature(builder, self.public, self.private.sign(statement(key, result, builder)))


def statement(key: Digest, result: ActionResult, builder: str) -> bytes:
    """Return the bytes that are signed: one line each for domain, key, builder and outputs.

    No two triples have the same: paths and names hold no line ends, and outputs are sorted.

    Raises:
        CacheError: a result that `encode_result` refuses, or a name that `check_builder` does.
    """
    check_builder(builder)
    encode_result(result)  # refuses what could not be a line
    outputs = (f"output {digest} {path}" for path, digest in result.outputs.items())
    return "\n".join((DOMAIN, f"key {key}", f"builder {builder}", *outputs, "")).encode()


def verifies(key: Digest, result: ActionResult, signature: Signature) -> bool:
    """Return whether a signature is one of its signer for this action, result and builder."""
    try:
        signed = statement(key, result, signature.builder)
    except CacheError:
        return False
    return is_of(signature.signer, signature.value, signed)


def is_of(public: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether a signature over `data` is one of a public key.

    Raises:
        CacheError: there is no package that verifies it.
    """
    require()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (not on a no-op)
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_builder(name: str) -> None:
    """Accept the name of a builder.

    Raises:
        CacheError: it is not of 1 to 100 letters, digits and `._@:/+-`, the first of them a
            letter or a digit.
    """
    if BUILDER.fullmatch(name) is None:
        raise CacheError(
            f"not the name of a builder: {name[:120]!r}",
            "use up to 100 letters, digits and ._@:/+- and begin with a letter or a digit",
        )


def read_public(text: str) -> bytes:
    """Return the public key in a text: its 32 bytes in base64.

    Raises:
        CacheError: it is none.
    """
    key = _base64(text)
    if key is None:
        raise CacheError(
            f"not an ed25519 public key: {text[:80]!r}",
            "it is 44 characters of base64, as doit cache keygen prints it",
        )
    return key


def write_public(key: bytes) -> str:
    """Return a public key as text, the inverse of `read_public`."""
    return base64.b64encode(key).decode()


def read_private(text: str, origin: str) -> Ed25519PrivateKey:
    """Return the private key that a text is, or that the file which it names holds.

    origin: where the text is from, for messages; the text itself is in none.

    Raises:
        CacheError: it is no such key and no such file.
    """
    found = _private_in(text, origin)
    if found is not None:
        return found
    try:
        path = Path(text.strip()).expanduser()
        with path.open("rb") as file:
            content = file.read(_MAX_FILE).decode()
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, no text, nobody's home
        why = f": {error.strerror}" if isinstance(error, OSError) else ""
        raise CacheError(f"{origin}: neither {_FORMS} nor a file with one{why}", _MAKE) from None
    found = _private_in(content, f"{origin}: {path}")
    if found is None:
        raise CacheError(f"{origin}: {path}: not {_FORMS}", _MAKE)
    return found


def exposed(text: str) -> Path | None:
    """Return the file that a text names, as `read_private` takes it, if everybody may read it."""
    try:
        path = Path(text.strip()).expanduser()
        return path if path.is_file() and path.stat().st_mode & stat.S_IROTH else None
    except (OSError, ValueError, RuntimeError):  # it is the key itself
        return None


def make_private() -> bytes:
    """Return a new private key, as PEM."""
    require()
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  (not on a no-op)
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_of(private: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of a private key's public one."""
    return private.public_key().public_bytes_raw()


def _private_in(text: str, origin: str) -> Ed25519PrivateKey | None:
    """Return the key that a text is, or None if it does not look like one."""
    require()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  (not on a no-op)
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    seed = _base64(text)
    if seed is not None:
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    if "-----BEGIN" not in text:
        return None
    try:
        key = serialization.load_pem_private_key(text.strip().encode() + b"\n", password=None)
    except TypeError:
        raise CacheError(f"{origin}: the private key has a password", "store it without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CacheError(f"{origin}: not {_FORMS}", _MAKE) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise CacheError(f"{origin}: a private key of another kind, not {_FORMS}", _MAKE)
    return key


def _base64(text: str) -> bytes | None:
    """Return the key of 32 bytes that a text is in base64, in its one canonical form."""
    text = text.strip()
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES and write_public(key) == text else None


def require() -> None:
    """Accept that signatures can be made and verified here.

    Raises:
        CacheError: the package for it is not installed.
    """
    if find_spec("cryptography") is None:
        raise CacheError(
            "signatures need the package cryptography", "run: python3 bootstrap.py trust"
        )
