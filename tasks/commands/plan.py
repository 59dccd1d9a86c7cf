"""`doit plan`: what a run would do, and how long it would take."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from tasks.assess import Assessment, State
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.amounts import duration_text, size_text
from tasks.display.table import render
from tasks.durations import durations
from tasks.estimate import Estimate, Span, estimate
from tasks.history import causes
from tasks.session import Session
from tasks.state import ACTION

VERSION = 1  # of the JSON form, docs/plan.schema.json
JOBS = {
    "name": "jobs",
    "short": "n",
    "long": "process",
    "type": int,
    "default": 1,
    "help": "estimate the time of a run with so many nodes at a time",
}
_BUILDS = (State.STALE, State.WAITING)


class Plan(NodeCommand):
    """`doit plan [TASK …]`: what a run would do."""

    doc_purpose = "show what a run would do and how long that takes, and do nothing"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (JSON, JOBS)

    def _execute(self, session: Session, as_json: bool, jobs: int, pos_args: list[str]) -> int:
        if jobs < 1:
            raise InvalidCommand(f"-n is {jobs}\nhint: give the number of nodes at a time")
        decided = self._decided(session, pos_args)
        seconds = durations(session, self.dep_manager.backend)
        expected = estimate(session.workspace.graph, decided, seconds, jobs)
        nodes = [self._node(session, one, seconds.get(name)) for name, one in decided.items()]
        counts = Counter(one.state for one in decided.values())
        fetch = session.to_fetch()
        if as_json:
            form = {
                "version": VERSION,
                "nodes": nodes,
                "states": {state.value: counts[state] for state in State},
                "fetch_bytes": fetch,
                "estimate": _estimate_json(expected),
            }
            print(json.dumps(form, indent=2, allow_nan=False))
            return 0
        lines = [_line(node) for node in nodes if node["state"] != State.CURRENT.value]
        if lines:
            print(render(lines))
        sizes = {State.REMOTE: f" ({size_text(fetch)} to fetch)" if fetch else ""}
        words = (f"{counts[state]} {state.value}{sizes.get(state, '')}" for state in State)
        print(f"{len(decided)} nodes: {', '.join(words)}")
        if counts[State.STALE] or counts[State.WAITING]:
            print(f"time: {_words(expected, counts[State.STALE] + counts[State.WAITING])}")
        return 0

    def _node(
        self, session: Session, assessed: Assessment, seconds: float | None
    ) -> dict[str, Any]:
        """Return what there is to say of a node, as data."""
        node = assessed.node
        found = []
        if assessed.state not in (State.CURRENT, State.WAITING, State.BROKEN):
            old = self.dep_manager.backend.get(node.name, ACTION)
            found = [cause.text for cause in causes(session.workspace, assessed, old)]
        outputs = assessed.outputs.values() if assessed.outputs is not None else ()
        remote = assessed.state is State.REMOTE
        lacking = session.workspace.store.missing(outputs) if remote else ()
        return {
            "node": node.name,
            "kind": node.kind,
            "state": assessed.state.value,
            "key": assessed.keyed.key.hash if assessed.keyed else None,
            "reason": assessed.reason,
            "causes": found,
            "bytes": sum(digest.size for digest in lacking) if remote else None,
            "wanted": node.name in session.wanted,
            "seconds": seconds,
        }


def _line(node: dict[str, Any]) -> tuple[str, ...]:
    amount = ""
    if node["state"] == State.REMOTE.value:
        amount = size_text(node["bytes"]) + ("" if node["wanted"] else ", left there")
    elif node["seconds"] is not None and State(node["state"]) in _BUILDS:
        amount = _time(node["seconds"])
    causes = ", ".join(node["causes"]) or node["reason"]
    return (node["state"], node["node"], amount, causes)


def _words(expected: Estimate, count: int) -> str:
    """Say how long a run takes that builds `count` nodes at most, and what is not known of it."""
    if len(expected.unknown) == count:
        return "unknown: none of them was timed before"
    least, most = expected.least.elapsed, expected.most.elapsed
    text = f"about {_time(most)}"
    if least < most:
        text = f"{_time(least)}, up to {_time(most)} if all that waits has to be built"
    if expected.jobs > 1:
        text += f", with -n {expected.jobs}; {_time(expected.most.work)} of work"
    text += f"; longest chain {_time(expected.most.chain)}"
    unknown = len(expected.unknown)
    return text + (f"; unknown for {unknown} node{'s' if unknown > 1 else ''}" if unknown else "")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else duration_text(seconds)


def _estimate_json(expected: Estimate) -> dict[str, Any]:
    return {
        "jobs": expected.jobs,
        "least": _span_json(expected.least),
        "most": _span_json(expected.most),
        "unknown": list(expected.unknown),
    }


def _span_json(span: Span) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(span).items()}
