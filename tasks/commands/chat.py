"""`doit chat`: talk to what was built."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from olmo.errors import OlmoError, unknown
from tasks.commands.node_command import NodeCommand
from tasks.configuration.release import Row
from tasks.graph import message
from tasks.plan import DIST, library_name, release_directory
from tasks.session import Session


class Chat(NodeCommand):
    """`doit chat MODEL`: talk to what was built."""

    only_waits = False
    doc_purpose = "talk to a model that was built"
    doc_usage = "MODEL"
    cmd_options: ClassVar[Any] = (
        {
            "name": "prompt",
            "long": "prompt",
            "type": str,
            "default": "",
            "help": "ask this and leave",
        },
        {
            "name": "quantization",
            "long": "quantization",
            "type": str,
            "default": "",
            "help": "talk to this quantization (default: the first in the matrix)",
        },
        {
            "name": "window",
            "long": "window",
            "type": int,
            "default": 0,
            "help": "talk to the build with this window (default: the largest)",
        },
        {
            "name": "temperature",
            "long": "temperature",
            "type": float,
            "default": 0.0,
            "help": "sampling temperature, 0 for the likeliest token (default)",
        },
        {
            "name": "seed",
            "long": "seed",
            "type": int,
            "default": 0,
            "help": "seed of the sampling",
        },
    )

    def _execute(
        self,
        session: Session,
        prompt: str,
        quantization: str,
        window: int,
        temperature: float,
        seed: int,
        pos_args: list[str],
    ) -> int:
        from olmo.generation.console import converse  # noqa: PLC0415  (imports tvm)

        if len(pos_args) != 1:
            raise InvalidCommand("`chat` is with one model: doit chat MODEL")
        row = _row(session, pos_args[0], quantization, window)
        dist = session.workspace.root / DIST
        assert session.matrix is not None  # noqa: S101  (the row comes from it)
        library = dist / "libs" / library_name(row, session.matrix.targets[row.target].suffix)
        directory = dist / release_directory(row)
        if not library.is_file() or not directory.is_dir():
            raise InvalidCommand(f"{row} is not built\nhint: run doit package:{row}")
        sys.stderr.write(f"{directory.name} on {row.target}\n")
        try:
            return converse(directory, library, prompt or None, temperature=temperature, seed=seed)
        except OlmoError as error:
            sys.stderr.write(f"error: {message(error)}\n")
            return 1


def _row(session: Session, model: str, quantization: str, window: int) -> Row:
    from olmo.targets import runs_here  # noqa: PLC0415  (only chat asks)

    rows = session.matrix.rows if session.matrix is not None else ()
    models = list(dict.fromkeys(row.model for row in rows))
    if model not in models:
        raise InvalidCommand(message(unknown("model", model, models)))
    assert session.matrix is not None  # noqa: S101  (it has rows)
    fitting = [
        row
        for row in rows
        if row.model == model
        and quantization in ("", row.quantization)
        and window in (0, row.window)
        and runs_here(session.matrix.targets[row.target])
    ]
    if not fitting:
        raise InvalidCommand(f"the matrix has no row of {model} that fits and runs on this machine")
    first = fitting[0].quantization
    return max((row for row in fitting if row.quantization == first), key=lambda row: row.window)
