"""`doit status`: the release matrix as a table."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tasks.assess import State
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.table import release_table, render
from tasks.report.gather import cells
from tasks.report.json_form import cell_json
from tasks.session import Session, record

VERSION = 1  # of the JSON form, docs/status.schema.json


class Status(NodeCommand):
    """`doit status`: the release matrix as a table."""

    doc_purpose = "show the release matrix as a table"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (
        JSON,
        {
            "name": "check",
            "long": "check",
            "type": bool,
            "default": False,
            "help": "exit with 1 unless everything is up to date",
        },
    )

    def _execute(self, session: Session, as_json: bool, check: bool, pos_args: list[str]) -> int:
        decided = self._decided(session, pos_args)
        if as_json:
            states = {name: assessed.state.value for name, assessed in decided.items()}
            known = cells(session, decided, lambda n: record(self.dep_manager.get_values(n)))
            rows = [cell_json(cell) for cell in known]
            self._tell(session)
            form = {"version": VERSION, "nodes": states, "release": rows}
            print(json.dumps(form, indent=2, allow_nan=False))
        else:
            table = release_table(session, set(decided))
            self._tell(session)
            print(table or render([(a.state.value, name) for name, a in decided.items()]))
        stale = any(assessed.state is not State.CURRENT for assessed in decided.values())
        return int(check and stale)
