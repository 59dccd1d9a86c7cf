"""Nodes whose actions a cluster runs: what each needs goes there, and what it made is found there.

The Action that is executed is the one whose digest is the node's key, so its result is the same
wherever it ran, and is remembered under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.action import ActionResult
from cache.digest import Digest, of_bytes
from cache.errors import CorruptBlob
from cache.tiered import TieredStore
from tasks.configuration.cluster import Cluster
from tasks.errors import BuildError
from tasks.keys import CODE, INPUTS, Input, Keyed
from tasks.normalise import normalise
from tasks.staging import MakeAgain, check_sources, in_place, made_at, renamed, staged_names
from tasks.workspace import Workspace, source_files

if TYPE_CHECKING:
    from cache.execution.executor import ActionFailed

_SMALL = 1 << 16  # bytes of an input that goes in one message with others
_LINES = 12  # of what a failed action wrote

Watch = Callable[[str], None]


@dataclass(frozen=True)
class Ran:
    """What came of an action: its result, whether its files are here, and its warnings.

    `cached` tells whether nothing had to run: the cluster had the result.
    """

    result: ActionResult
    here: bool = True
    cached: bool = False
    warnings: tuple[str, ...] = ()


def run(
    workspace: Workspace,
    cluster: Cluster,
    keyed: Keyed,
    make_again: MakeAgain,
    watch: Watch,
    *,
    fresh: bool,
    wanted: bool,
) -> Ran:
    """Run the action of a node, even where its result is known if `fresh`, or if keys are trusted.

    Who may write to the cluster's action cache chooses what it answers without running anything:
    with trusted keys that is asked for nothing, and without them it counts as fetched.
    Unless `wanted`, its files stay where they are. `watch` is told "queued" and "executing".

    Raises BuildError for a failed action, or CacheError for a cluster that fails.
    """
    from cache.execution.executor import ActionFailed  # noqa: PLC0415  (loads grpc: not on a no-op)

    needed = _Needed(workspace, keyed, make_again, leaves=_leaves(workspace, cluster))
    try:
        done = cluster.executor.execute(
            keyed.key,
            needed.blobs(),
            needed.contents,
            lambda stage: watch(stage.value),
            fresh=fresh or bool(workspace.shared.trust.keys),
        )
    except ActionFailed as error:
        raise _failure(workspace, keyed, cluster.address, error) from error
    except CorruptBlob:
        check_sources(workspace, keyed)
        raise
    warnings = _told(done.stdout).get("warnings")
    result = replace(done.result, fetched=done.cached)
    here = _bring(workspace, cluster, keyed, result, wanted=wanted)
    return Ran(result, here, done.cached, tuple(map(str, warnings or ())))


def _leaves(workspace: Workspace, cluster: Cluster) -> bool:
    """Whether what is on the cluster counts as being in the build's remote store."""
    shared = workspace.shared
    return shared.reads and shared.remote is not None and shared.remote.address == cluster.address


def _bring(
    workspace: Workspace, cluster: Cluster, keyed: Keyed, result: ActionResult, *, wanted: bool
) -> bool:
    """Fetch the files of a result unless they may stay; returns whether they are here."""
    leaves = _leaves(workspace, cluster)
    if leaves:
        workspace.shared.know(keyed.key, result)
        if not wanted:
            return False
    home = workspace.shared
    if not leaves:
        home = TieredStore(workspace.store, lambda: cluster.executor.store, required=True)
    lost = home.fetch(result.outputs.values())
    if lost:
        raise BuildError(
            f"{keyed.node.name}: {cluster.address} made {len(lost)} files and does not give them",
            "run doit again",
        )
    workspace.store.put_result(keyed.key, result)
    return True


class _Needed:
    """The blobs of a node's Action and of its input root, and where each is to be had."""

    def __init__(
        self, workspace: Workspace, keyed: Keyed, make_again: MakeAgain, *, leaves: bool
    ) -> None:
        self._workspace, self._keyed, self._make_again = workspace, keyed, make_again
        self._leaves = leaves
        self._messages = keyed.messages
        self._code = {digest: path for path, digest in keyed.code.files.items()}
        self._inputs = {given.digest: given for given in keyed.inputs.values()}

    def blobs(self) -> set[Digest]:
        """Return all of them."""
        return {*self._messages, *self._code, *self._inputs}

    def contents(self, missing: Collection[Digest]) -> Mapping[Digest, bytes | Path]:
        """Return what those hold that the cluster lacks.

        What is neither here nor in another remote store is made again; if that happens on the
        cluster, it has them then, and they are left out.
        """
        found: dict[Digest, bytes | Path] = {}
        inputs = []
        for digest in missing:
            if digest in self._messages:
                found[digest] = self._messages[digest]
            elif digest in self._code:
                found[digest] = self._source(self._code[digest], digest)
            else:
                inputs.append(self._inputs[digest])
        found |= {given.digest: file for given in inputs if (file := self._file(given))}
        lacking = [given for given in inputs if given.digest not in found]
        lost = {given.digest for given in lacking}
        if lacking and not self._leaves:
            lost = self._workspace.shared.fetch(lost)
        if lost:
            self._make_again([given for given in lacking if given.digest in lost])
        return found | {given.digest: file for given in lacking if (file := self._file(given))}

    def _file(self, given: Input) -> bytes | Path | None:
        """Return a file of this machine that holds an input, or what it holds, None without one."""
        workspace = self._workspace
        source = workspace.graph.sources.get(given.producer)
        if source is not None:
            return source_files(source)[given.path]
        if workspace.store.contains(given.digest):
            if given.digest.size <= _SMALL:
                return workspace.store.read(given.digest)
            return workspace.store.blob_path(given.digest)
        return made_at(workspace, given) if in_place(workspace, given) else None

    def _source(self, path: str, digest: Digest) -> bytes:
        text = normalise((self._workspace.code_root / path).read_text(encoding="utf-8")).encode()
        if of_bytes(text) != digest:
            raise BuildError(f"{CODE} {path} changed while the build ran", "run doit again")
        return text


def _failure(workspace: Workspace, keyed: Keyed, address: str, error: ActionFailed) -> BuildError:
    """Return a failed action's own words, with the user's names for its inputs."""
    names = staged_names(workspace, keyed, Path(INPUTS))
    told = _told(error.stdout)
    if told.get("error"):
        return BuildError(str(renamed(told["error"], names)), told.get("hint") or None)
    lines = error.stderr.decode(errors="replace").strip().splitlines()[-_LINES:]
    text = str(renamed("\n".join(lines), names)) or "it wrote nothing"
    return BuildError(f"the action failed on {address} (exit code {error.exit_code})\n{text}")


def _told(stdout: bytes) -> Mapping[str, Any]:
    """Return what `tasks.actions` told in its last line; nothing if it did not come to that.

    Of what else a worker may write there, nothing: an "error" and a "hint" are text, and "warnings"
    a list of it.
    """
    lines = stdout.strip().splitlines()
    try:
        value = json.loads(lines[-1]) if lines else {}
    except (ValueError, RecursionError):
        return {}
    kinds = {"error": str, "hint": str, "warnings": list}
    told = value if isinstance(value, dict) else {}
    return {name: told[name] for name, kind in kinds.items() if isinstance(told.get(name), kind)}
