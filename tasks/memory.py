"""Whether the libraries that a run is going to execute fit into memory, asked before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import accumulate
from pathlib import Path

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.quantizations import QUANTIZATIONS
from olmo.verification.memory import available, check_memory, gibibytes, needed
from tasks.assess import State
from tasks.configuration.models import Model
from tasks.configuration.release import Row
from tasks.session import Session
from tasks.workspace import BUILD

CONFIG = "config.json"
RUNS = "tasks.actions.verify"  # the action that runs libraries here


def check_verifications(session: Session, names: Iterable[str], at_once: int = 1) -> str | None:
    """Refuse to build what could not be verified in the end, where the model is known by now.

    Returns a warning if each library fits, but not so many as are verified `at_once` at most. A
    model that has to be downloaded first is known later: the verification itself asks again.

    Raises OlmoError naming the node.
    """
    needs: dict[str, int] = {}
    of_a_library = cache(partial(_needed, session))
    for name, row in _to_run(session, names):
        try:
            wanted = of_a_library(row.model, row.quantization)
        except OlmoError as error:
            raise OlmoError(f"{name}: {error}", error.hint) from None
        if wanted is not None:
            needs[name] = wanted
    free = available()
    largest = sorted(needs.values(), reverse=True)[:at_once]
    if free is None or sum(largest) <= free:
        return None
    fit = sum(total <= free for total in accumulate(largest))
    return (
        f"verifying {len(largest)} libraries at a time may take {gibibytes(sum(largest))} of memory, "
        f"and {gibibytes(free)} are free here: doit -n {max(fit, 1)} is safe"
    )


def _to_run(session: Session, names: Iterable[str]) -> Iterator[tuple[str, Row]]:
    """Yield the nodes among `names` that may run a library, and their rows."""
    chosen, nodes = set(names), session.workspace.graph.nodes
    for row in session.matrix.rows if session.matrix is not None else ():
        name = f"verify:{row}"
        if name not in chosen or nodes[name].action != RUNS:
            continue
        if session.decided[name].state in (State.STALE, State.WAITING):
            yield name, row


def _needed(session: Session, model: str, quantization: str) -> int | None:
    """Return the bytes that verifying a model's library takes, None if the model is not here.

    Raises OlmoError if there are less.
    """
    if session.matrix is None:
        return None
    config = _config(session.workspace.root, session.matrix.models[model])
    if config is None:
        return None
    check_memory(config, QUANTIZATIONS[quantization])
    return needed(config, QUANTIZATIONS[quantization])


def _config(root: Path, model: Model) -> OLMoConfig | None:
    """Return the configuration of a model that is on this machine, None where it is not."""
    place = model.path or root / BUILD / "download" / model.name
    try:
        return OLMoConfig.from_huggingface(read_json(place / CONFIG))
    except OlmoError:  # not there yet, or broken: the download tells
        return None
