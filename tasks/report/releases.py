"""The data of a report: a release matrix and the nodes behind it, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from olmo.verification.report import Report
from tasks.report.records import Conversion

CellState = Literal["built", "cached", "remote", "stale", "not built", "broken"]
# What each state of a cell means, in the order in which they are listed.
CELL_STATES: Mapping[CellState, str] = {
    "built": "up to date, and its files are in dist/",
    "cached": "the store on this machine has it; the next run puts it into dist/",
    "remote": "the shared cache has it; the next run fetches it",
    "stale": "in dist/ is an earlier build; the next run builds it again",
    "not built": "the next run builds it",
    "broken": "it cannot be built: something that it reads is missing",
}
FileRole = Literal["library", "manifest", "provenance", "configuration", "weights"]


@dataclass(frozen=True)
class Answers:
    """Whether a library gave the `same` texts as that of another `target`."""

    same: bool
    target: str


@dataclass(frozen=True)
class Cell:
    """One library of the release and what goes with it.

    Args:
        window: context window in tokens.
        devices: shards and stages where the model is divided, such as "tp2"; else empty.
        reason: why it is not built, empty if it is.
        key: hash of the key of its package; of a stale one, of the build that is described.
        library: bytes of the library, None if nothing is known.
        weights: bytes of the weight shards.
        verified: the report on the library (`olmo.verification.report`).
        answers: of a library that answered questions after another target's did.
        seconds: how long the actions of all `nodes` ran, None unless that is known of each.
        nodes: names of its package and of all that this is made from, producers first.
        files: paths of its files that are in place, relative to dist/.
    """

    model: str
    quantization: str
    window: int
    devices: str
    target: str
    state: CellState
    reason: str = ""
    key: str | None = None
    library: int | None = None
    weights: int | None = None
    verified: Report | None = None
    answers: Answers | None = None
    seconds: float | None = None
    nodes: tuple[str, ...] = ()
    files: Mapping[FileRole, str] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """The window, and the devices where there are several."""
        return "-".join(filter(None, (str(self.window), self.devices)))

    @property
    def row(self) -> tuple[str, str, str]:
        """Model, quantization and variant: the row of the matrix that the cell is in."""
        return (self.model, self.quantization, self.variant)


@dataclass(frozen=True)
class Step:
    """A node: its state as `doit plan` has it, the nodes it reads, seconds that its action ran."""

    name: str
    state: str
    reads: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def kind(self) -> str:
        """The kind of the node: download, convert and so on."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Release:
    """A whole report: the cells in the order of the matrix, the conversions and nodes behind them."""

    cells: tuple[Cell, ...]
    conversions: tuple[Conversion, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(dict.fromkeys(cell.target for cell in self.cells))

    @property
    def rows(self) -> Mapping[tuple[str, str, str], Mapping[str, Cell]]:
        """The rows: cells by target, by what `Cell.row` says."""
        found: dict[tuple[str, str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.row, {})[cell.target] = cell
        return found
