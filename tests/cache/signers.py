"""Signers, and what they sign, for tests."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from cache import signing
from cache.action import ActionResult
from cache.digest import Digest
from cache.errors import CacheError
from cache.signing import Signer

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032


def signer(builder: str, seed: bytes = SEED) -> Signer:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return Signer(builder, signing.public_of(private), private)


def another(name: str) -> Signer:
    """The signer of a name: always the same key, and another one for each name."""
    return signer(name, hashlib.sha256(name.encode()).digest())


KEYS = st.builds(
    Digest,
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(0, (1 << 63) - 1),
)
BUILDERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,20}", fullmatch=True)


def _possible(outputs: dict[str, Digest]) -> bool:
    try:
        signing.statement(Digest("0" * 64, 0), ActionResult(outputs), "b")
    except CacheError:
        return False
    return True


_NAMES = st.sampled_from(["a", "b c", "out.txt", "ä", "key x", "d"])
OUTPUTS = st.dictionaries(
    st.lists(_NAMES, min_size=1, max_size=3).map("/".join), KEYS, min_size=1, max_size=4
).filter(_possible)
