"""Olmill's own doit commands: plan, status, why, check, chat; and doit's forget, made to forget.

Data goes to the standard output, everything else to the standard error stream. Exit codes are
doit's: 0 well, 1 not, 2 an error in building, 3 an error before anything began.
"""

from __future__ import annotations

import getopt
import json
import sys
from collections import Counter
from collections.abc import Collection
from typing import Any, ClassVar

from doit.cmd_base import DoitCmdBase
from doit.cmd_forget import Forget as DoitForget
from doit.exceptions import InvalidCommand

from cache.errors import CacheError
from olmo.errors import OlmoError, unknown
from tasks.assess import State
from tasks.errors import BuildError
from tasks.explain import draw, why
from tasks.graph import message
from tasks.keys import Input, fields, made
from tasks.plan import DIST, library_name, release_directory
from tasks.realise import execute, outputs_of
from tasks.release import Row
from tasks.session import Session
from tasks.state import ACTION
from tasks.table import release_rows, release_table, render, size_text

JSON = {
    "name": "as_json",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON on the standard output",
}


class NodeCommand(DoitCmdBase):  # type: ignore[misc]  # doit has no type information
    """A command about nodes; `tell(session, …)` is its body."""

    doc_description = None
    cmd_options: ClassVar[Any] = ()

    def parse_execute(self, in_args: list[str]) -> int:
        """Accept options after the arguments too, as people type them; doit stops at the first."""
        long = self.cmdparser.get_long()
        try:
            given, arguments = getopt.gnu_getopt(in_args, self.cmdparser.get_short(), long)
        except getopt.GetoptError:
            return int(super().parse_execute(in_args))  # doit says what is wrong
        options = [
            f"{option}={value}" if f"{option[2:]}=" in long else option + value
            for option, value in given
        ]
        return int(super().parse_execute([*options, "--", *arguments]))

    def _decided(self, session: Session, names: list[str]) -> dict[str, Any]:
        """Assess the nodes that the arguments name, or all of them."""
        if names:
            names = [found for name in names for found in self._expand(session, name)]
        try:
            decided = session.decide(self.dep_manager.get_values, names or None, names)
        except CacheError as error:
            raise InvalidCommand(message(error)) from None
        shared = session.workspace.shared
        shared.close()
        for text in shared.warnings():
            sys.stderr.write(f"warning: {text}\n")
        return decided

    @staticmethod
    def _expand(session: Session, name: str) -> list[str]:
        nodes = session.workspace.graph.nodes
        if name in nodes:
            return [name]
        group = [found for found in nodes if found.startswith(f"{name}:")]
        if not group:
            error = unknown("task", name, nodes)
            raise InvalidCommand(message(error))
        return group

    def _one(self, session: Session, names: list[str]) -> str:
        if len(names) != 1:
            raise InvalidCommand(f"`{self.name}` is about one task: doit {self.name} TASK")
        if names[0] not in session.workspace.graph.nodes:
            raise InvalidCommand(message(unknown("task", names[0], session.workspace.graph.nodes)))
        return names[0]


class Plan(NodeCommand):
    """`doit plan [TASK …]`: what a run would do."""

    doc_purpose = "show what a run would do, and do nothing"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (JSON,)

    def _execute(self, session: Session, as_json: bool, pos_args: list[str]) -> int:
        decided = self._decided(session, pos_args)
        nodes = [
            {
                "node": name,
                "state": assessed.state.value,
                "key": assessed.keyed.key.hash if assessed.keyed else None,
                "reason": assessed.reason,
            }
            for name, assessed in decided.items()
        ]
        if as_json:
            print(json.dumps({"nodes": nodes}, indent=2))
            return 0
        for node in nodes:
            if node["state"] != State.CURRENT.value:
                print(f"{node['state']:8} {node['node']}  ({node['reason']})")
        counts = Counter(assessed.state.value for assessed in decided.values())
        size = session.to_fetch()
        sizes = {State.REMOTE: f" ({size_text(size)} to fetch)" if size else ""}
        words = (f"{counts[state.value]} {state.value}{sizes.get(state, '')}" for state in State)
        print(f"{len(decided)} nodes: {', '.join(words)}")
        return 0


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
            rows = release_rows(session, set(decided))
            print(json.dumps({"nodes": states, "release": rows}, indent=2))
        else:
            table = release_table(session, set(decided))
            print(table or render([(a.state.value, name) for name, a in decided.items()]))
        stale = any(assessed.state is not State.CURRENT for assessed in decided.values())
        return int(check and stale)


class Why(NodeCommand):
    """`doit why TASK`: the reason a node is stale, down to its root cause."""

    doc_purpose = "show why a task is stale, field by field"
    doc_usage = "TASK"
    cmd_options: ClassVar[Any] = (
        {
            "name": "show_inputs",
            "long": "inputs",
            "type": bool,
            "default": False,
            "help": "show every field of the task's key",
        },
        {
            "name": "show_key",
            "long": "key",
            "type": bool,
            "default": False,
            "help": "show the task's key and nothing else",
        },
    )

    def _execute(
        self, session: Session, show_inputs: bool, show_key: bool, pos_args: list[str]
    ) -> int:
        name = self._one(session, pos_args)
        assessed = self._decided(session, [name])[name]
        if show_key or show_inputs:
            if assessed.keyed is None:
                raise InvalidCommand(f"{name} has no key yet: it is {assessed.reason}")
            print(assessed.keyed.key.hash)
            if show_inputs:
                for field, value in fields(assessed.keyed).items():
                    print(f"  {field}: {value}")
            return 0
        recorded = self.dep_manager.backend.get
        print(draw(why(session, lambda task: recorded(task, ACTION), name)))
        return 0


class Check(NodeCommand):
    """`doit check TASK …`: build nodes again, elsewhere, and compare bytes."""

    doc_purpose = "rebuild tasks in a fresh directory and compare with what is recorded"
    doc_usage = "TASK ..."

    def _execute(self, session: Session, pos_args: list[str]) -> int:
        if not pos_args:
            raise InvalidCommand("`check` needs tasks: doit check TASK ...")
        wrong = 0
        for name in [found for arg in pos_args for found in self._expand(session, arg)]:
            try:
                different = compare(session, name)
            except (BuildError, CacheError, OlmoError) as error:
                print(f"failed    {name}: {message(error)}")
                wrong += 1
                continue
            wrong += bool(different)
            verdict = "DIFFERENT" if different else "identical"
            print(f"{verdict} {name}" + "".join(f"\n  {path}" for path in different))
        return int(wrong > 0)


def compare(session: Session, name: str) -> list[str]:
    """Run a node's action again in a fresh directory; returns the outputs that came out differently.

    Raises BuildError if the node is not built.
    """
    workspace = session.workspace
    node = workspace.graph.nodes[name]
    keyed = session.keys.keyed(node, lambda selection: outputs_of(workspace, selection))
    recorded = workspace.shared.get_result(keyed.key)
    if recorded is None:
        raise BuildError(f"{name} is not built: nothing to compare with", f"run: doit {name}")
    (again,), _ = execute(workspace, [keyed], _refuse_lost)
    before, after = made(recorded), made(again)
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def _refuse_lost(lost: Collection[Input]) -> None:
    given = next(iter(lost))
    raise BuildError(f"{given.path} of {given.producer} is lost", f"run: doit {given.producer}")


class Chat(NodeCommand):
    """`doit chat MODEL`: talk to what was built."""

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
        from olmo.console import converse  # noqa: PLC0415  (imports tvm)

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


class Forget(DoitForget):  # type: ignore[misc]  # doit has no type information
    """doit's `forget`: the task runs again, even if the store has its result."""

    name = "forget"

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> Any:
        self.dep_manager.remove = self.dep_manager.backend.forget
        return super()._execute(forget_sub, forget_disable_default, forget_all)
