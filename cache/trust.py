"""Whose results are believed: those made here, and those that a trusted key has signed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from cache import signing
from cache.errors import Untrusted
from cache.sealing import MAX_SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cache.action import ActionResult, Signature
    from cache.digest import Digest
    from cache.signing import Signer

_SET_KEY = "set OLMILL_SIGNING_KEY to a key that the matrix trusts (docs/trust.md)"


class Verdict(Enum):
    """What is known of where a result is from."""

    BUILT = "built here"
    TRUSTED = "trusted"
    UNSIGNED = "not signed"
    UNTRUSTED = "signed by no trusted key"
    FORGED = "wrongly signed"


@dataclass(frozen=True)
class Judgement:
    """A verdict; who is said to have made the result, and the key by which that is said.

    Both are claims unless the verdict is TRUSTED. signer: the key's name where it is trusted,
    else how it begins.
    """

    verdict: Verdict
    builder: str | None = None
    signer: str | None = None


@dataclass(frozen=True)
class Trust:
    """Trusted public keys by name, and who signs on this machine. Without keys all is believed."""

    keys: Mapping[str, bytes] = field(default_factory=dict)
    signer: Signer | None = None

    def judge(self, key: Digest, result: ActionResult) -> Judgement:
        """Return what is known of where the result of an action is from.

        Raises:
            CacheError: there are signatures to verify, and no package to do it with.
        """
        if not result.fetched:
            return Judgement(Verdict.BUILT)
        names = {public: name for name, public in self.keys.items()}
        trusted = self._verified(key, result)
        if trusted:
            first = trusted[0]
            return Judgement(Verdict.TRUSTED, first.builder, names[first.signer])
        for signature in result.signatures:
            if signature.signer in names:
                return Judgement(Verdict.FORGED, signature.builder, names[signature.signer])
        if result.signatures:
            first = result.signatures[0]
            beginning = signing.write_public(first.signer)[:12] + "…"
            return Judgement(Verdict.UNTRUSTED, first.builder, beginning)
        return Judgement(Verdict.UNSIGNED)

    def believes(self, verdict: Verdict) -> bool:
        """Return whether a result of which that is known may be used."""
        return not self.keys or verdict in (Verdict.BUILT, Verdict.TRUSTED)

    def vouchers(self, key: Digest, result: ActionResult) -> list[str] | None:
        """Return the trusted public keys that vouch for a result; None for one made here."""
        if not result.fetched:
            return None
        signers = (signature.signer for signature in self._verified(key, result))
        return [signing.write_public(signer) for signer in signers]

    def still_believes(self, vouchers: Collection[str] | None) -> bool:
        """Return whether a result may be used for which `vouchers` vouched when it came."""
        if vouchers is None or not self.keys:
            return True
        return any(signing.write_public(key) in vouchers for key in self.keys.values())

    def trusts_signer(self) -> bool:
        """Return whether this machine has a key to sign with, and it is one of the trusted."""
        return self.signer is not None and self.signer.public in self.keys.values()

    def why_unbelieved(self) -> Untrusted | None:
        """Return why nobody would believe what is made here, None if those would who trust these keys."""
        if not self.keys or self.trusts_signer():
            return None
        if self.signer is None:
            return Untrusted("would not be believed without a signature", _SET_KEY)
        public = signing.write_public(self.signer.public)
        told = f"would not be believed: OLMILL_SIGNING_KEY ({public}) is not trusted"
        return Untrusted(told, _SET_KEY)

    def sign(self, key: Digest, result: ActionResult) -> ActionResult:
        """Return a result as it goes to others: with the signatures that they need to believe it.

        What was made here is signed in the name of this machine's builder. What came from
        elsewhere keeps the name under which a trusted key vouches for it, and without such a key
        is not signed: nobody here knows what it is. Signatures that nobody trusts are left out.

        Raises:
            Untrusted: there are trusted keys, and none of them would have signed it.
        """
        kept = self._verified(key, result) if self.keys else list(result.signatures)
        signer = None if self.keys and not self.trusts_signer() else self.signer
        if signer is not None and (not result.fetched or (self.keys and kept)):
            ours = signer.sign(key, result, kept[0].builder if kept else None)
            others = [one for one in kept if one.signer != ours.signer]
            kept = [ours, *others[: MAX_SIGNATURES - 1]]
        if self.keys and not any(one.signer in self.keys.values() for one in kept):
            elsewhere = "came from elsewhere without a signature by a trusted key"
            unsigned = None if result.fetched else self.why_unbelieved()
            raise unsigned or Untrusted(elsewhere, "doit builds it anew")
        return replace(result, signatures=tuple(kept))

    def _verified(self, key: Digest, result: ActionResult) -> list[Signature]:
        """Return the right signatures by trusted keys, one of each key."""
        by_trusted = [one for one in result.signatures if one.signer in self.keys.values()]
        found: dict[bytes, Signature] = {}
        for one in by_trusted:
            if signing.verifies(key, result, one):
                found.setdefault(one.signer, one)
        return list(found.values())
