"""From a session that has decided to the data of a report.

What is not in the project is read from the store, so the matrix can be told before anything of it
is fetched. Of a shared cache that is a few kilobytes for each row: manifests, no artifacts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from cache.digest import Digest
from cache.errors import CacheError
from olmo.verification.report import same_answers
from tasks.assess import Assessment, Record, State, upstream
from tasks.configuration.release import Row
from tasks.node import producers
from tasks.plan import DIST, convert_of, library_name, package_of, release_directory
from tasks.releasing.provenance import place
from tasks.report.records import Conversion, conversion, verification
from tasks.report.releases import Answers, Cell, CellState, FileRole, Release, Step
from tasks.session import Session
from tasks.workspace import Workspace, read_receipt

Recorded = Callable[[str], Record | None]
Outputs = Mapping[str, Digest]

_STATES: Mapping[State, CellState] = {
    State.CURRENT: "built",
    State.CACHED: "cached",
    State.REMOTE: "remote",
    State.BROKEN: "broken",
}
CONVERSION = "report.json"


def release(session: Session, recorded: Recorded, seconds: Mapping[str, float]) -> Release:
    """Return the report on the rows whose packages were decided.

    `recorded` is the last success of a node, `seconds` how long actions ran (`tasks.durations`).
    """
    found = cells(session, session.decided, recorded, seconds)
    conversions: dict[tuple[str, str], Conversion] = {}
    for row in _rows(session, session.decided):
        place = (row.model, row.quantization)
        told = conversions.get(place) or _conversion(session, row)
        if told is not None:
            conversions[place] = told
    steps = tuple(
        Step(name, assessed.state.value, _reads(session, name), _rounded(seconds.get(name)))
        for name, assessed in session.decided.items()
    )
    return Release(found, tuple(conversions.values()), steps)


def cells(
    session: Session,
    names: Collection[str],
    recorded: Recorded = lambda _: None,
    seconds: Mapping[str, float] | None = None,
) -> tuple[Cell, ...]:
    """Return the matrix's rows whose package is among `names`, as cells, in its order."""
    rows = _rows(session, names)
    order = {name: number for number, name in enumerate(session.workspace.graph.nodes)}
    return _compared(_cell(session, row, order, recorded, seconds or {}) for row in rows)


def _compared(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells that say whether their answers are those of the first of their row."""
    first: dict[tuple[str, ...], Cell] = {}
    found = []
    for cell in cells:
        answers = None
        if cell.verified and "questions" in cell.verified.get("accuracy", {}):
            peer = first.setdefault(cell.row, cell)
            same = None if peer is cell else same_answers(peer.verified or {}, cell.verified)
            answers = None if same is None else Answers(same, peer.target)
        found.append(replace(cell, answers=answers))
    return tuple(found)


def _rows(session: Session, names: Collection[str]) -> Iterable[Row]:
    rows = session.matrix.rows if session.matrix is not None else ()
    return [row for row in rows if package_of(row) in names]


def _cell(
    session: Session,
    row: Row,
    order: Mapping[str, int],
    recorded: Recorded,
    seconds: Mapping[str, float],
) -> Cell:
    name = package_of(row)
    state, reason, outputs = _state(session, name)
    head = (row.model, row.quantization, row.window, str(row.devices).removeprefix("-"), row.target)
    nodes = tuple(sorted(upstream(session.workspace, [name]), key=order.__getitem__))
    known = [seconds[node] for node in nodes if node in seconds]
    ran = _rounded(sum(known)) if len(known) == len(nodes) else None
    if outputs is None:
        return Cell(*head, state, reason, nodes=nodes, seconds=ran)
    assert session.matrix is not None  # noqa: S101  (rows come from it)
    library = f"libs/{library_name(row, session.matrix.targets[row.target].suffix)}"
    manifest = f"libs/{library_name(row, '.json')}"
    directory = release_directory(row)
    shards = [path for path in outputs if path.startswith(directory) and path.endswith(".bin")]
    places: Mapping[FileRole, str] = {
        "library": library,
        "manifest": manifest,
        "configuration": f"{directory}/mlc-chat-config.json",
        "weights": f"{directory}/tensor-cache.json",
    }
    read = _read(session.workspace, DIST, manifest, outputs)
    return Cell(
        *head,
        state,
        reason,
        _key(session, name, state, recorded),
        outputs[library].size if library in outputs else None,
        sum(outputs[path].size for path in shards),
        None if read is None else verification(read),
        seconds=ran,
        nodes=nodes,
        files=_in_place(session, name, places, outputs) if state in ("built", "stale") else {},
    )


def _in_place(
    session: Session, name: str, places: Mapping[FileRole, str], outputs: Outputs
) -> dict[FileRole, str]:
    """Return the files of a row that are in dist/; a statement of provenance is no output."""
    workspace = session.workspace
    found = {role: path for role, path in places.items() if path in outputs}
    statement = place(workspace.graph.nodes[name])
    if (workspace.root / statement).is_file():
        found["provenance"] = statement.removeprefix(f"{DIST}/")
    return found


def _state(session: Session, name: str) -> tuple[CellState, str, Outputs | None]:
    """Return the state of a row, the reason for it, and the outputs that are known."""
    receipt = read_receipt(session.workspace, name)
    known = session.decided.get(name)
    if session.running or known is None:
        return ("not built", "", None) if receipt is None else ("built", "", receipt)
    if known.state in (State.CACHED, State.REMOTE):
        return _STATES[known.state], _reason(known), known.outputs
    if receipt is not None:
        return ("built" if known.state is State.CURRENT else "stale"), _reason(known), receipt
    return _STATES.get(known.state, "not built"), _reason(known), None


def _reason(known: Assessment) -> str:
    missing = known.node.missing if known.state is State.STALE else None
    return missing.partition("\n")[0] if missing else known.reason


def _key(session: Session, name: str, state: CellState, recorded: Recorded) -> str | None:
    last = recorded(name)
    if state == "stale":
        return last.key if last else None
    known = session.decided.get(name)
    return known.keyed.key.hash if known and known.keyed else None


def _conversion(session: Session, row: Row) -> Conversion | None:
    name = convert_of(row)
    known = session.decided.get(name)
    outputs = known.outputs if known else None
    if outputs is None:
        outputs = read_receipt(session.workspace, name)
    if outputs is None:
        return None
    directory = session.workspace.graph.nodes[name].destination
    report = _read(session.workspace, directory, CONVERSION, outputs)
    return None if report is None else conversion(row.model, row.quantization, report)


def _read(workspace: Workspace, place: str, path: str, outputs: Outputs) -> bytes | None:
    """Return an output: the file in place if it is what it was, else the blob; None if lost."""
    digest = outputs.get(path)
    if digest is None:
        return None
    file = workspace.root / place / path
    try:
        if workspace.store.stat.matches(file, digest):
            return file.read_bytes()
        return workspace.shared.read(digest)
    except (OSError, CacheError):
        return None


def _reads(session: Session, name: str) -> tuple[str, ...]:
    nodes = session.workspace.graph.nodes
    return tuple(read for read in producers(nodes[name]) if read in nodes)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
