"""How long the actions of nodes take, by what is known of earlier runs."""

from __future__ import annotations

from tasks.session import Session
from tasks.state import DURATION, StateDB


def durations(session: Session, state: StateDB) -> dict[str, float]:
    """Return seconds that the actions of nodes ran, by node, of those of which that is known.

    A result that the run would find says how long its action ran, on whatever machine; of other
    nodes it is the time of their last success here, or of the result that was found then. Of nodes
    made by one run of an action each has an equal share. Of a command, `state` is its
    `dep_manager.backend`; the session has decided.
    """
    nodes = session.workspace.graph.nodes
    recorded = {name: ran for name, ran in state.all_of(DURATION).items() if name in nodes}
    found = {name: one.ran for name, one in session.decided.items() if one.ran is not None}
    return recorded | found
