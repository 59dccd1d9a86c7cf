"""`doit plan`: what a run would do."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, ClassVar

from tasks.amounts import size_text
from tasks.assess import State
from tasks.commands.node_command import JSON, NodeCommand
from tasks.session import Session


class Plan(NodeCommand):
    """`doit plan [TASK …]`: what a run would do."""

    doc_purpose = "show what a run would do, and do nothing"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (JSON,)

    def _execute(self, session: Session, as_json: bool, pos_args: list[str]) -> int:
        decided = self._decided(session, pos_args)
        nodes = [
            {
                "node": name,
                "state": assessed.state.value,
                "key": assessed.keyed.key.hash if assessed.keyed else None,
                "reason": assessed.reason,
            }
            for name, assessed in decided.items()
        ]
        if as_json:
            print(json.dumps({"nodes": nodes}, indent=2))
            return 0
        for node in nodes:
            if node["state"] != State.CURRENT.value:
                print(f"{node['state']:8} {node['node']}  ({node['reason']})")
        counts = Counter(assessed.state.value for assessed in decided.values())
        size = session.to_fetch()
        sizes = {State.REMOTE: f" ({size_text(size)} to fetch)" if size else ""}
        words = (f"{counts[state.value]} {state.value}{sizes.get(state, '')}" for state in State)
        print(f"{len(decided)} nodes: {', '.join(words)}")
        return 0
