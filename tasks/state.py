"""doit's record of successes, written through task by task.

doit's own backends write when the run ends, so a killed run forgets what it finished. This one
commits each task as it succeeds. `doit forget` leaves a mark: a forgotten task runs again, even
where the store still has its result.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from cache.errors import unavailable
from tasks.errors import BuildError

FORGOTTEN = "forgotten:"
ACTION = "action:"  # fields of the Action, of the last success
DURATION = "duration:"  # seconds that the action ran
REASON = "reason:"  # why and how it was made, for `doit why --last`
RUN = "run:"  # of no task: the number of the last run that made anything
_ASIDE = (
    ACTION,
    DURATION,
    REASON,
    RUN,
)  # what deciding does not need: read when asked for, never forgotten
MADE = "made:"  # nodes and keys of the results that came to be, told to the runner and not kept
DISTRUSTED = "distrusted:"  # keys of results that are not believed, told and not kept likewise
NOTICES = "notices:"  # what the remote cache gave cause to say, told to the runner and not kept
_VALUES = "_values_:"  # doit's entry for what a task returned
_HINT = "free some space on that disk, and make sure that you may write there"
_LAST_SAVED = "deps:"  # the entry that doit's `Dependency.save_success` sets last


def read_values(path: Path) -> dict[str, dict[str, Any]]:
    """Return what the database of a project, which may be in use, says of each task's last success.

    Raises:
        sqlite3.Error: it is none, or is damaged.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("select task, entries from state").fetchall()
    try:
        return {task: json.loads(entries).get(_VALUES, {}) for task, entries in rows}
    except ValueError as error:
        raise sqlite3.DatabaseError(f"{path}: {error}") from None


class StateDB:
    """A doit backend over SQLite: one row per task, JSON encoded by doit's codec."""

    desc = "SQLite, every success written at once"

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        del module_name  # part of doit's interface, for dbm
        self.name = name
        self.codec = codec
        self._open()

    def _open(self) -> None:
        try:
            Path(self.name).parent.mkdir(parents=True, exist_ok=True)
            self._connect()
        except OSError as error:
            refused = unavailable(error, self.name, store=False)
            raise BuildError(str(refused), refused.hint) from None
        except sqlite3.OperationalError as error:
            raise BuildError(f"{self.name}: {error}", _HINT) from None
        except sqlite3.DatabaseError:  # a record of successes that cannot be read is no record
            self._connection.close()
            for suffix in ("", "-wal", "-shm"):
                Path(self.name + suffix).unlink(missing_ok=True)
            self._connect()

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self.name,
            isolation_level=None,
            timeout=60,
            check_same_thread=False,  # whichever thread collects garbage may close it
        )
        weakref.finalize(self, self._connection.close)  # doit's list and info never do
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute("pragma synchronous=normal")
        self._connection.execute(
            "create table if not exists state (task text primary key, entries text)"
        )
        self._connection.execute(
            "create table if not exists aside "
            "(task text, entry text, value text, primary key (task, entry))"
        )
        rows = self._connection.execute("select task, entries from state")
        self._entries: dict[str, str | dict[str, Any]] = dict(rows.fetchall())

    def _task(self, task_id: str) -> dict[str, Any] | None:
        entries = self._entries.get(task_id)
        if isinstance(entries, str):
            entries = self._entries[task_id] = self.codec.decode(entries)
        return entries

    def _save(self, task_id: str) -> None:
        value = self.codec.encode(self._task(task_id))
        self._write("insert or replace into state values (?, ?)", (task_id, value))

    def _write(self, statement: str, values: tuple[str, ...]) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise BuildError(f"{self.name}: {error}", _HINT) from None

    def get(self, task_id: str, dependency: str) -> Any:
        """Value of one entry, None if absent."""
        if dependency in _ASIDE:
            query = "select value from aside where task = ? and entry = ?"
            row = self._connection.execute(query, (task_id, dependency)).fetchone()
            return None if row is None else self.codec.decode(row[0])
        entries = self._task(task_id)
        return None if entries is None else entries.get(dependency)

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Set one entry; a success is committed with its last entry."""
        if dependency in _ASIDE:
            row = (task_id, dependency, self.codec.encode(value))
            self._write("insert or replace into aside values (?, ?, ?)", row)
            return
        entries = self._task(task_id)
        if entries is None:
            entries = self._entries[task_id] = {}
        entries[dependency] = value
        if dependency == _LAST_SAVED:
            entries.pop(FORGOTTEN, None)
        if dependency in (_LAST_SAVED, "ignore:"):
            self._save(task_id)

    def all_of(self, dependency: str) -> dict[str, Any]:
        """Values of an entry that is kept aside (`ACTION`, `DURATION`), by task."""
        query = "select task, value from aside where entry = ?"
        rows = self._connection.execute(query, (dependency,))
        return {task: self.codec.decode(value) for task, value in rows}

    def in_(self, task_id: str) -> bool:
        """Whether anything is recorded of a task."""
        return task_id in self._entries

    def remove(self, task_id: str) -> None:
        """Forget a task's success."""
        self._entries.pop(task_id, None)
        self._write("delete from state where task = ?", (task_id,))

    def forget(self, task_id: str) -> None:
        """Forget a task's success and mark it to run again, whatever the store has."""
        self._entries[task_id] = {FORGOTTEN: True}
        self._save(task_id)

    def remove_all(self) -> None:
        """Forget every task that has a record, as `forget` does."""
        for task_id in list(self._entries):
            self.forget(task_id)

    def dump(self) -> None:
        """Close the database: all successes are in it already."""
        self._connection.close()


def to_run_again(state: StateDB, names: Iterable[str]) -> dict[str, str]:
    """Return those of the nodes that `doit forget` marked, with the reason in words."""
    return {name: "forgotten: it runs again" for name in names if state.get(name, FORGOTTEN)}
