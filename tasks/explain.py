"""Why a node is stale: the fields in which its Action differs from the recorded one.

An input that may change because its producer has to run leads on to that producer, so that a
reason is a chain down to its root causes. What cannot be known before a build is said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.assess import Assessment, State
from tasks.keys import fields
from tasks.node import producers
from tasks.session import Session

Fields = Mapping[str, str]
SHORT = 40  # longer values are said to have changed, not shown


@dataclass(frozen=True)
class Reason:
    """One reason, and those behind it."""

    text: str
    because: tuple[Reason, ...] = ()


def why(session: Session, recorded: Callable[[str], Fields | None], name: str) -> Reason:
    """Explain the state of node `name`, after `session.decide`; `recorded` gives old fields."""
    return _node(session, recorded, name, seen=set())


def differences(old: Fields, new: Fields) -> list[str]:
    """Name the fields in which two Actions of a node differ, in words."""
    found = []
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        if before == after:
            continue
        if before is None:
            found.append(f"{field} added")
        elif after is None:
            found.append(f"{field} removed")
        elif field.startswith(("input ", "code ")) or max(len(before), len(after)) > SHORT:
            found.append(f"{field} changed")
        else:
            found.append(f"{field} {before} → {after}")
    return found


def draw(reason: Reason) -> str:
    """Draw a reason and those behind it as a tree."""
    lines = [reason.text]
    for position, child in enumerate(reason.because):
        last = position + 1 == len(reason.because)
        head, *rest = draw(child).splitlines()
        lines.append(("└─ " if last else "├─ ") + head)
        lines.extend(("   " if last else "│  ") + line for line in rest)
    return "\n".join(lines)


def _node(
    session: Session, recorded: Callable[[str], Fields | None], name: str, seen: set[str]
) -> Reason:
    assessed = session.decided[name]
    if assessed.state is State.CURRENT:
        return Reason(f"{name} is up to date")
    if name in seen:
        return Reason(f"{name} (see above)")
    seen.add(name)
    if assessed.state is State.BROKEN:
        return Reason(f"{name} cannot be built: {assessed.reason}")
    if assessed.state is State.WAITING:
        return Reason(f"{name} is {assessed.reason}", _producers(session, recorded, name, seen))
    words = {
        State.CACHED: "will be restored from the store",
        State.REMOTE: "is in the remote cache",
        State.STALE: "has to be built",
    }
    text = f"{name} {words[assessed.state]}"
    return Reason(text, tuple(_causes(session, recorded, assessed, seen)))


def _producers(
    session: Session, recorded: Callable[[str], Fields | None], name: str, seen: set[str]
) -> tuple[Reason, ...]:
    nodes = session.workspace.graph.nodes
    stale = [
        producer
        for producer in producers(nodes[name])
        if producer in nodes and session.decided[producer].outputs is None
    ]
    return tuple(_node(session, recorded, producer, seen) for producer in stale)


def _causes(
    session: Session,
    recorded: Callable[[str], Fields | None],
    assessed: Assessment,
    seen: set[str],
) -> list[Reason]:
    old = recorded(assessed.node.name)
    if old is None or assessed.keyed is None:
        return [Reason(assessed.reason)]
    found = []
    for difference in differences(old, fields(assessed.keyed)):
        text = difference
        producer = _producer_of(assessed, text)
        behind: tuple[Reason, ...] = ()
        if producer is not None and producer in session.decided:
            known = session.decided[producer]
            if known.state is not State.CURRENT:
                behind = (_node(session, recorded, producer, seen),)
            else:
                text += f", made by {producer}"
        found.append(Reason(text, behind))
    return found or [Reason(assessed.reason)]


def _producer_of(assessed: Assessment, text: str) -> str | None:
    if not text.startswith("input ") or assessed.keyed is None:
        return None
    place = text.removeprefix("input ").rpartition(" ")[0]
    given = assessed.keyed.inputs.get(place)
    return None if given is None else given.producer
