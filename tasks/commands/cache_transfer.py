"""`doit cache push` and `pull`: results to and from the remote cache, without building anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache.action import ActionResult
from cache.digest import Digest
from cache.errors import CacheError
from cache.tiered import TieredStore
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.amounts import size_text
from tasks.graph import message
from tasks.keys import Keyed
from tasks.session import Session

ENDS = "Ends with 1 if a task that was named is nowhere."


@dataclass(frozen=True)
class Moved:
    """What was moved, with the bytes of the blobs.

    there: results that were there already. absent: nodes of which there is nothing to move.
    """

    results: int
    blobs: int
    bytes: int
    there: int
    absent: tuple[str, ...]


class Transfer(NodeCommand):
    """What push and pull share."""

    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (JSON,)
    done: ClassVar[str]  # what was
    nowhere: ClassVar[str] = "neither on this machine nor in the remote cache"

    def _execute(self, session: Session, as_json: bool, pos_args: list[str]) -> int:
        shared = session.workspace.shared
        shared.required = True
        try:
            if shared.remote is None:
                raise InvalidCommand(
                    "there is no remote cache\n"
                    "hint: set `remote` in [cache] of the matrix, or OLMILL_REMOTE_CACHE"
                )
            with shared.local.lease():
                decided = self._decided(session, pos_args)
                keyed = {name: one.keyed for name, one in decided.items() if one.keyed}
                moved = self._move(shared, keyed)
        except CacheError as error:
            sys.stderr.write(f"error: {message(error)}\n")
            return 2
        finally:
            shared.close()
        self._warn(shared)
        unknown = [name for name in decided if name not in keyed]
        absent = (*moved.absent, *unknown)
        asked = {found for name in pos_args for found in self._expand(session, name)}
        code = 0 if asked.isdisjoint(absent) else 1
        if as_json:
            print(json.dumps({**asdict(moved), "absent": absent}, indent=2))
            return code
        where = self.nowhere + (", or not believed" if shared.trust.keys else "")
        lines = [f"{name}: {where}" for name in absent if asked]
        last = f"{self.done} {self._told(moved)}"
        if absent and not asked:
            last += f"; {len(absent)} {where}"
        print("\n".join([*lines, last]))
        return code

    def _told(self, moved: Moved) -> str:
        size = size_text(moved.bytes)
        return f"{moved.results} results, {moved.blobs} blobs, {size}; {moved.there} were there"

    def _move(self, shared: TieredStore, keyed: Mapping[str, Keyed]) -> Moved:
        raise NotImplementedError


class Push(Transfer):
    """`doit cache push [TASK …]`: what is here, and not there."""

    name = "cache push"
    doc_purpose = "store results of this machine in the remote cache"
    doc_description = f"Of the tasks and what they read, or of all. {ENDS}"
    done = "pushed"

    def _move(self, shared: TieredStore, keyed: Mapping[str, Keyed]) -> Moved:
        remote = shared.remote
        assert remote is not None  # noqa: S101  (asked before)
        keys = {name: one.key for name, one in keyed.items()}
        local = shared.local.get_results(keys.values())
        here = {name: _believed(shared, key, local.get(key)) for name, key in keys.items()}
        there = remote.get_results(keys.values())
        messages = {one.key: one.messages for one in keyed.values()}
        to_go = {keys[name]: result for name, result in here.items() if result is not None}
        to_go = {key: result for key, result in to_go.items() if key not in there}
        outputs = {digest for result in to_go.values() for digest in result.outputs.values()}
        blobs = remote.missing(outputs)
        shared.writes = True  # who says push means it
        for key in to_go:
            shared.push(key, messages[key])
        shared.finish()
        absent = tuple(
            name for name, result in here.items() if result is None and keys[name] not in there
        )
        return Moved(len(to_go), len(blobs), _sum(blobs), len(there), absent)


class Pull(Transfer):
    """`doit cache pull [TASK …]`: what is there, and not here."""

    name = "cache pull"
    doc_purpose = "bring results of the remote cache into the one on this machine"
    doc_description = (
        "Of the tasks and what they read, or of all. "
        f"Nothing is built, and nothing is put into dist/: doit does that. {ENDS}"
    )
    done = "pulled"

    def _move(self, shared: TieredStore, keyed: Mapping[str, Keyed]) -> Moved:
        keys = {name: one.key for name, one in keyed.items()}
        shared.reads = True
        found = shared.lookup(keys.values())
        to_come = {key: one.result for key, one in found.items() if not one.local}
        outputs = {digest for result in to_come.values() for digest in result.outputs.values()}
        blobs = shared.local.missing(outputs)
        lacking = shared.fetch(outputs)
        came = {
            key: result
            for key, result in to_come.items()
            if lacking.isdisjoint(result.outputs.values())
        }
        for key, result in came.items():
            shared.local.put_result(key, result)
        here = {key for key, one in found.items() if one.local}
        absent = tuple(name for name, key in keys.items() if key not in here | came.keys())
        return Moved(len(came), len(blobs - lacking), _sum(blobs - lacking), len(here), absent)


def _believed(shared: TieredStore, key: Digest, result: ActionResult | None) -> ActionResult | None:
    """Return a result of this machine, if there is one that a build here would use."""
    if result is None or not shared.trust.believes(shared.trust.judge(key, result).verdict):
        return None
    return result


def _sum(digests: Iterable[Digest]) -> int:
    return sum(digest.size for digest in digests)
