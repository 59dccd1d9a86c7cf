"""Whether the libraries that a run is going to execute fit into memory, asked before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.quantizations import QUANTIZATIONS
from olmo.verification.memory import check_memory
from tasks.assess import State
from tasks.configuration.models import Model
from tasks.session import Session
from tasks.workspace import BUILD

CONFIG = "config.json"
RUNS = "tasks.actions.verify"  # the action that runs libraries here


def check_verifications(session: Session, names: Iterable[str]) -> None:
    """Refuse to build what could not be verified in the end, where the model is known by now.

    A model that has to be downloaded first is known later: the verification itself asks again.

    Raises OlmoError naming the node.
    """
    chosen, nodes = set(names), session.workspace.graph.nodes
    for row in session.matrix.rows if session.matrix is not None else ():
        name = f"verify:{row}"
        if name not in chosen or nodes[name].action != RUNS or session.matrix is None:
            continue
        if session.decided[name].state not in (State.STALE, State.WAITING):
            continue
        config = _config(session.workspace.root, session.matrix.models[row.model])
        if config is None:
            continue
        try:
            check_memory(config, QUANTIZATIONS[row.quantization])
        except OlmoError as error:
            raise OlmoError(f"{name}: {error}", error.hint) from None


def _config(root: Path, model: Model) -> OLMoConfig | None:
    """Return the configuration of a model that is on this machine, None where it is not."""
    place = model.path or root / BUILD / "download" / model.name
    try:
        return OLMoConfig.from_huggingface(read_json(place / CONFIG))
    except OlmoError:  # not there yet, or broken: the download tells
        return None
