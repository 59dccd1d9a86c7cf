"""Why a node is stale, or was made: a tree of reasons.

The reasons of a node are the fields in which its Action differs from the recorded one. An input
that may change because its producer has to run leads on to that producer, and one that has changed
because its producer was made again to the reason for that, so that a reason is a chain down to its
root causes. Of a node whose key is not known yet, what is known of it is compared; what cannot be
known before a build is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cache.digest import Digest
from tasks.assess import Assessment, State
from tasks.history import Cause, causes, changes, told
from tasks.keys import fields
from tasks.node import Selection, producers
from tasks.session import Session
from tasks.state import ACTION, StateDB
from tasks.workspace import source_outputs

_NEEDS: Mapping[State, str] = {
    State.CACHED: "will be restored from the store",
    State.REMOTE: "is in the remote cache",
    State.STALE: "has to be built",
}
_WAS: Mapping[str, str] = {
    "built": "was built",
    "local": "was restored from the store",
    "remote": "was found in the remote cache",
}


@dataclass(frozen=True)
class Reason:
    """One reason, and those behind it."""

    text: str
    because: tuple[Reason, ...] = ()


def why(session: Session, state: StateDB, name: str) -> Reason:
    """Explain what node `name` needs, after `session.decide`."""
    return _Explainer(session, state).needs(name)


def why_last(session: Session, state: StateDB, name: str) -> Reason:
    """Explain why node `name` was made when it last was, by what was recorded then."""
    return _Explainer(session, state).was_made(name)


def draw(reason: Reason) -> str:
    """Draw a reason and those behind it as a tree."""
    lines = [reason.text]
    for position, child in enumerate(reason.because):
        last = position + 1 == len(reason.because)
        head, *rest = draw(child).splitlines()
        lines.append(("└─ " if last else "├─ ") + head)
        lines.extend(("   " if last else "│  ") + line for line in rest)
    return "\n".join(lines)


class _Explainer:
    """Explains nodes of one session, each once."""

    def __init__(self, session: Session, state: StateDB) -> None:
        self._session = session
        self._state = state
        self._seen: set[str] = set()

    def needs(self, name: str) -> Reason:
        """Explain what a node needs now."""
        assessed = self._session.decided[name]
        if assessed.state is State.CURRENT:
            return Reason(f"{name} is up to date")
        if name in self._seen:
            return Reason(f"{name} (see above)")
        self._seen.add(name)
        if assessed.state is State.BROKEN:
            return Reason(f"{name} cannot be built: {assessed.reason}")
        if assessed.state is State.WAITING:
            return Reason(f"{name} is {assessed.reason}", self._before_its_key(assessed))
        old = self._state.get(name, ACTION)
        found = causes(self._session.workspace, assessed, old)
        return Reason(f"{name} {_NEEDS[assessed.state]}", tuple(map(self._cause, found)))

    def was_made(self, name: str, until: int | None = None) -> Reason:
        """Explain why a node was made; not by a run after the one numbered `until`."""
        found = told(self._state, name)
        if found is None or (until is not None and found.run > until):
            return Reason(f"why {name} was made is not recorded")
        if name in self._seen:
            return Reason(f"{name} (see above)")
        self._seen.add(name)
        because = [
            Reason(one.text, (self.was_made(one.producer, found.run),) if one.producer else ())
            for one in found.causes
        ]
        return Reason(f"{name} {_WAS[found.how]}", tuple(because))

    def _cause(self, cause: Cause) -> Reason:
        """Follow a cause to the node that is behind it: to what that needs, or why it was made."""
        producer = cause.producer
        if producer is None:
            return Reason(cause.text)
        known = self._session.decided.get(producer)
        if known is not None and known.state is not State.CURRENT:
            return Reason(cause.text, (self.needs(producer),))
        return Reason(cause.text, (self.was_made(producer),))

    def _before_its_key(self, assessed: Assessment) -> tuple[Reason, ...]:
        """Explain a node whose key is not known: its producers, and what else of it has changed."""
        node, decided = assessed.node, self._session.decided
        names = producers(node)
        unknown = {name for name in names if name in decided and decided[name].outputs is None}
        because = [self.needs(name) for name in names if name in unknown]
        old = self._state.get(node.name, ACTION)
        if old is not None:
            rest = tuple(given for given in node.inputs if given.producer not in unknown)
            keyed = self._session.keys.keyed(replace(node, inputs=rest), self._outputs_of)
            inputs = {field for field in old if field.startswith("input ")}
            found = changes(self._session.workspace, keyed, old, inputs - fields(keyed).keys())
            because += map(self._cause, found)
        return tuple(because)

    def _outputs_of(self, selection: Selection) -> Mapping[str, Digest]:
        workspace = self._session.workspace
        source = workspace.graph.sources.get(selection.producer)
        if source is not None:
            return source_outputs(workspace, source, selection)
        return self._session.decided[selection.producer].outputs or {}
