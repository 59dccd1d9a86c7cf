"""`doit cache audit`: who made what a build uses, and what its remote cache offers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache import signing
from cache.errors import CacheError
from cache.trust import Trust, Verdict
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.table import render
from tasks.graph import message
from tasks.session import Session

HERE, REMOTE = "here", "remote"
NOT_BUILT = "not built"


class Audit(NodeCommand):
    """`doit cache audit [TASK …]`: who made what, by which key, and whether that is trusted."""

    name = "cache audit"
    doc_purpose = "show who built what, here and in the remote cache, and who vouches for it"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (JSON,)

    def _execute(self, session: Session, as_json: bool, pos_args: list[str]) -> int:
        shared = session.workspace.shared
        trust = shared.trust
        shared.trust = Trust()  # also what is made of a result that nobody vouches for has a key
        decided = self._decided(session, pos_args)
        shared.trust = trust
        keys = {name: one.keyed.key for name, one in decided.items() if one.keyed is not None}
        try:
            claims = shared.claims(keys.values())
        except CacheError as error:
            raise InvalidCommand(message(error)) from None
        finally:
            shared.close()
        self._warn(shared)
        rows: list[dict[str, str | None]] = []
        wrong = 0
        for name in decided:
            found = claims[keys[name]] if name in keys else []
            row = {"node": name, "key": keys[name].hash if name in keys else None}
            for claim in found:
                judgement = claim.judgement
                wrong += not trust.believes(judgement.verdict)
                rows.append(
                    {
                        **row,
                        "where": HERE if claim.local else REMOTE,
                        "builder": judgement.builder,
                        "signer": judgement.signer,
                        "verdict": judgement.verdict.value,
                    }
                )
            if not found:
                nobody = {"where": None, "builder": None, "signer": None, "verdict": NOT_BUILT}
                rows.append({**row, **nobody})
        if as_json:
            trusted = {name: signing.write_public(key) for name, key in trust.keys.items()}
            print(json.dumps({"trusted": trusted, "results": rows}, indent=2))
        else:
            print(text(rows, trust))
        return int(wrong > 0)


def text(rows: list[dict[str, str | None]], trust: Trust) -> str:
    """Return an audit for people: a table, and how many results have each verdict."""
    names = ("node", "key", "where", "builder", "signer", "verdict")
    lines: list[tuple[str, ...]] = [names]
    for row in rows:
        shown = {**row, "key": (row["key"] or "")[:12]}
        lines.append(tuple(shown[name] or "-" for name in names))
    words = [*(verdict.value for verdict in Verdict), NOT_BUILT]
    counts = {word: sum(row["verdict"] == word for row in rows) for word in words}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    keys = ", ".join(trust.keys) or "none: every result is used"
    return f"{render(lines)}\n{told or 'nothing'} (trusted keys: {keys})"
