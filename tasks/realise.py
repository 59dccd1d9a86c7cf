"""Realise a node: look its key up, else run its action, and put the outputs where they belong.

This is the only place that runs actions. Everything it needs is on disk (receipts of the
producers, the store), so it works the same in this process, a thread or a forked child.
"""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cache.action import ActionResult
from cache.digest import Digest, of_bytes
from cache.errors import unavailable
from tasks.board import Board
from tasks.errors import BuildError
from tasks.keys import INPUTS, OUTPUTS, Input, Keyed, Keys, lookup, made
from tasks.node import Node, Selection, canonical_json
from tasks.remote_execution import Ran, run
from tasks.staging import HandingOn, MakeAgain, check_sources, renamed, stage, staged_names
from tasks.workspace import (
    Workspace,
    leave_elsewhere,
    materialise,
    read_receipt,
    source_outputs,
    write_receipt,
)

How = Literal["local", "remote", "built"]

Companions = Callable[[Keyed], Sequence[Keyed]]  # what one run of an action makes beside a node

_SERIAL = threading.Lock()  # held by actions that may not run in two threads of one process


@dataclass(frozen=True)
class Realised:
    """What became of a node: its key, where the result came from, seconds that making it took now.

    `ran` are the seconds that the action ran for this node, whenever and wherever that was; None
    if nobody said. `beside` is the node whose action made this one too, if it was not its own. `here` tells whether
    its files are in place, or were left in the remote store. `made` are the nodes and keys of the results
    that came to be: its own, and those of producers whose files were lost. `vouchers` are the
    trusted public keys that vouch for the result, None if it was made here.
    """

    keyed: Keyed
    outputs: Mapping[str, Digest]
    how: How
    seconds: float
    beside: str | None = None
    warnings: tuple[str, ...] = ()
    here: bool = True
    made: Mapping[str, Digest] = field(default_factory=dict)
    ran: float | None = None
    vouchers: Collection[str] | None = None


def outputs_of(workspace: Workspace, selection: Selection) -> Mapping[str, Digest]:
    """Outputs of the finished node that is selected from, or what is selected of a source now.

    Raises BuildError if the node has no receipt.
    """
    source = workspace.graph.sources.get(selection.producer)
    if source is not None:
        return source_outputs(workspace, source, selection)
    outputs = read_receipt(workspace, selection.producer)
    if outputs is None:
        raise BuildError(
            f"{selection.producer} has not been built", f"run: doit {selection.producer}"
        )
    return outputs


def realise(
    workspace: Workspace,
    keys: Keys,
    node: Node,
    board: Board,
    companions: Companions,
    *,
    rebuild: bool = False,
    wanted: bool = True,
) -> Realised:
    """Make the outputs of `node` exist in the store and at its destination; write its receipt.

    With `rebuild` the action runs even where its result is known. If it runs, what `companions`
    returns is made in the same run, where that succeeds; `board` tells their own turns of it.
    Unless `wanted`, outputs that only the remote store has are left there.

    Raises BuildError, or what the action raises; nothing is recorded then.
    """
    keyed = keys.keyed(node, lambda selection: outputs_of(workspace, selection))
    again = _Again(workspace, keys, board)
    seconds, warnings, here = 0.0, tuple[str, ...](), True
    with workspace.store.lock(_lock_of(workspace, keyed)):
        beside = board.take(node.name)
        found = None if rebuild and beside is None else _find(workspace, keyed, wanted=wanted)
        if found is None:
            beside = None
            started = time.monotonic()
            new = _make(workspace, keyed, companions, board, again, rebuild=rebuild, wanted=wanted)
            seconds = time.monotonic() - started
            result, here, warnings = new.result, new.here, new.warnings
            how: How = "remote" if new.cached else "built"
        else:
            result, how, here = found
            how = how if beside is None else "built"
    outputs = made(result)
    previous = read_receipt(workspace, node.name) or {}
    (materialise if here else leave_elsewhere)(workspace, node, outputs, previous)
    write_receipt(workspace, node.name, outputs)
    fresh = {**again.made, **({node.name: keyed.key} if found is None or how == "built" else {})}
    told = (*again.warnings, *warnings)
    ran, vouchers = result.seconds, workspace.shared.trust.vouchers(keyed.key, result)
    return Realised(keyed, outputs, how, seconds, beside, told, here, fresh, ran, vouchers)


def _find(
    workspace: Workspace, keyed: Keyed, *, wanted: bool
) -> tuple[ActionResult, How, bool] | None:
    """Return the known result of a node, where it was, and whether its files are in the store.

    What is wanted is fetched; a result of which that does not succeed is none.
    """
    shared = workspace.shared
    found = lookup(workspace, [keyed.key]).get(keyed.key)
    if found is None:
        return None
    if found.local:
        return found.result, "local", True
    if not wanted:
        return found.result, "remote", False
    if shared.fetch(found.result.outputs.values()):
        return None
    workspace.store.put_result(keyed.key, found.result)
    return found.result, "remote", True


class _Again:
    """Makes nodes again whose files are needed and were lost, in the remote store or here.

    made, warnings: nodes and keys of what was made, and what to tell of it.
    """

    def __init__(self, workspace: Workspace, keys: Keys, board: Board) -> None:
        self._workspace, self._keys, self._board = workspace, keys, board
        self.made: dict[str, Digest] = {}
        self.warnings: list[str] = []

    def make(self, lost: Collection[Input]) -> None:
        """Make the producers of inputs again.

        Raises BuildError if one comes out different now.
        """
        workspace, there = self._workspace, set[Digest]()
        for name in dict.fromkeys(given.producer for given in lost):
            node = workspace.graph.nodes[name]
            keyed = self._keys.keyed(node, lambda selection: outputs_of(workspace, selection))
            with workspace.store.lock(_lock_of(workspace, keyed)):
                result = workspace.store.get_result(keyed.key)
                if result is None:
                    result = _make(workspace, keyed, _alone, self._board, self).result
                    self.made[name] = keyed.key
                    self.warnings.append(f"{name} was made again: its files were lost")
                there.update(result.outputs.values())
        gone = [given for given in lost if given.digest not in there]
        if gone:
            raise BuildError(
                f"{gone[0].path} of {gone[0].producer} is lost, and making it again gave another",
                f"run: doit forget {gone[0].producer}, then doit",
            )


def _lock_of(workspace: Workspace, keyed: Keyed) -> Digest:
    """Name what excludes work twice: the key; for nodes made in batches, all that they share."""
    if not keyed.node.batch or _is_remote(workspace, keyed):
        return keyed.key
    inputs = {place: str(given.digest) for place, given in keyed.inputs.items()}
    return of_bytes(canonical_json([keyed.node.action, inputs]).encode())


def _is_remote(workspace: Workspace, keyed: Keyed) -> bool:
    return workspace.cluster is not None and keyed.node.remote


def _make(
    workspace: Workspace,
    keyed: Keyed,
    companions: Companions,
    board: Board,
    again: _Again,
    *,
    rebuild: bool = False,
    wanted: bool = False,
) -> Ran:
    """Run a node's action on the cluster, or here for its companions too, and keep what it made."""
    name = keyed.node.name
    if workspace.cluster is not None and keyed.node.remote:
        watch = partial(board.stage, name)
        return run(
            workspace,
            workspace.cluster,
            keyed,
            again.make,
            watch,
            fresh=rebuild,
            wanted=wanted,
        )
    report = partial(board.report, name)
    nodes = [keyed, *companions(keyed)]
    try:
        results, warnings = execute(workspace, nodes, again.make, report)
    except Exception:
        if len(nodes) == 1:
            raise
        nodes = [keyed]  # the others' may be the failure: they will have their own turns
        results, warnings = execute(workspace, nodes, again.make, report)
    workspace.store.put_result(keyed.key, results[0])
    for companion, result in zip(nodes[1:], results[1:], strict=True):
        board.made(
            companion.node.name, by=name
        )  # whoever finds it knows that it was not there before
        workspace.store.put_result(companion.key, result)
    return Ran(results[0], warnings=warnings)


def _alone(_: Keyed) -> Sequence[Keyed]:
    """Return no companions."""
    return ()


def execute(
    workspace: Workspace,
    nodes: Sequence[Keyed],
    make_again: MakeAgain,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[list[ActionResult], tuple[str, ...]]:
    """Run the action of `nodes` once in a fresh directory and put all outputs into the store.

    Several nodes have one action and the same inputs. `make_again(inputs)` makes those that are
    nowhere to be had. `report(done, total)` is called with bytes
    now and then, if the action says how far it is. Returns a result for each node, with an equal
    share of the seconds that the action ran, and warnings.

    Raises BuildError if a source changed meanwhile or the action made no output.
    """
    store, first = workspace.store, nodes[0]
    with store.scratch() as directory:
        inputs = directory / INPUTS
        inputs.mkdir()
        module = importlib.import_module(first.node.action)
        hands_on = getattr(module, "HANDS_ON", False)
        stage(workspace, first, inputs, make_again, symbolic=hands_on)
        places = [directory / str(number) / OUTPUTS for number in range(len(nodes))]
        for place in places:
            place.mkdir(parents=True)
        one_at_a_time = _SERIAL if getattr(module, "SERIAL", False) else nullcontext()
        handing_on = HandingOn(store, first.inputs, inputs, places[0])
        options: dict[str, Any] = {}
        if getattr(module, "PROGRESS", False):
            options["progress"] = report
        if hands_on:
            options["hand_on"] = handing_on
        params = [json.loads(keyed.node.params) for keyed in nodes]
        try:
            with one_at_a_time:
                started = time.monotonic()
                if len(nodes) == 1:
                    warnings = module.run(params[0], inputs, places[0], **options)
                else:
                    jobs = list(zip(params, places, strict=True))
                    warnings = module.run_batch(jobs, inputs, **options)
                seconds = (time.monotonic() - started) / len(nodes)
        except OSError as error:
            raise unavailable(error, store.root) from error
        except Exception as error:
            names = [*staged_names(workspace, first, inputs)]
            names += [(str(place), str(store.root)) for place in places]
            error.args = tuple(renamed(argument, names) for argument in error.args)
            raise
        check_sources(workspace, first)
        results = [
            ActionResult(_collect(workspace, keyed, place, handing_on.made), seconds)
            for keyed, place in zip(nodes, places, strict=True)
        ]
    return results, tuple(warnings or ())


def _collect(
    workspace: Workspace, keyed: Keyed, outputs: Path, handed_on: Mapping[str, Digest]
) -> dict[str, Digest]:
    """Put what an action wrote for a node into the store; returns its outputs."""
    paths = sorted(path for path in outputs.rglob("*") if not path.is_dir())
    if not paths and not handed_on:
        raise BuildError(f"{keyed.node.name} made no output")
    found = dict(handed_on)
    for path in paths:
        if path.is_symlink():
            raise BuildError(f"{keyed.node.name} made a symbolic link, {path.name}")
        name = path.relative_to(outputs.parent).as_posix()
        found[name] = workspace.store.put_file(path, consume=True)
    return found
