"""`doit cache sign`: another key vouches for what is in the remote cache."""

from __future__ import annotations

from collections.abc import Mapping

from doit.exceptions import InvalidCommand

from cache.tiered import TieredStore
from cache.trust import Trust, Verdict
from tasks.commands.cache_transfer import ENDS, Moved, Transfer
from tasks.configuration.trust import SIGNING_KEY
from tasks.keys import Keyed


class Sign(Transfer):
    """`doit cache sign [TASK …]`: this machine's signature beside that of a trusted key."""

    name = "cache sign"
    doc_purpose = "sign results in the remote cache for which a trusted key vouches"
    doc_description = (
        "With the key of OLMILL_SIGNING_KEY, of the tasks and what they read, or of all: for when "
        f"keys are replaced. No blob moves, and the name of who built a result stays. {ENDS}"
    )
    done = "signed"
    nowhere = "not in the remote cache"

    def _move(self, shared: TieredStore, keyed: Mapping[str, Keyed]) -> Moved:
        keys = {name: one.key for name, one in keyed.items()}
        remote, trust = shared.remote, shared.trust
        assert remote is not None  # noqa: S101  (asked before)
        if not trust.keys:
            raise InvalidCommand(
                "no keys are trusted: nothing says which results are right\n"
                "hint: put public keys under [trust] in the matrix (docs/trust.md)"
            )
        signer = trust.signer
        if signer is None or not trust.trusts_signer():
            wrong = "nothing to sign with" if signer is None else f"{SIGNING_KEY} is not trusted"
            raise InvalidCommand(f"{wrong}\nhint: set {SIGNING_KEY} to a key that is trusted")
        there = remote.get_results(keys.values())
        ours = Trust({signer.builder: signer.public})
        unsigned = {
            key: result
            for key, result in there.items()
            if ours.judge(key, result).verdict is not Verdict.TRUSTED
        }
        remote.put_results(unsigned)
        absent = tuple(name for name, key in keys.items() if key not in there)
        return Moved(len(unsigned), 0, 0, len(there) - len(unsigned), absent)

    def _told(self, moved: Moved) -> str:
        return f"{moved.results} results; {moved.there} were signed by this key"
