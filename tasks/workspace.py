"""Where a graph lives on disk: sources, receipts and the files that users take away.

A receipt (`build/receipts/<kind>/….json`) holds the output digests of one node and nothing
else, so equal outputs mean equal receipts. Artifacts are hard links of store blobs, read-only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cache.digest import Digest, of_bytes, parse
from cache.local import guarded
from cache.local.store import LocalStore
from cache.merkle import check_path
from cache.tiered import TieredStore
from tasks.configuration.cluster import Cluster
from tasks.errors import BuildError
from tasks.node import Graph, Node, Selection, Source, canonical_json

BUILD = "build"
RECEIPTS = "receipts"
STATE = "state.sqlite"
TEMPORARY = "tmp"


@dataclass(frozen=True)
class Workspace:
    """A graph, the store that remembers its results, and the directories it appears in.

    `root` holds `build/` and `dist/`; `code_root` the packages that actions are imported from.
    `shared` is the store with the remote one behind it, `store` what of it is on this machine.
    `cluster` runs actions of nodes that are `remote`, if there is one.
    """

    root: Path
    code_root: Path
    graph: Graph
    shared: TieredStore
    cluster: Cluster | None = None

    def lacks(self, node: Node) -> str | None:
        """Return what this machine lacks to run a node's action; None if a cluster runs it."""
        elsewhere = self.cluster is not None and node.remote and bool(node.programs)
        return None if elsewhere else node.missing

    @property
    def store(self) -> LocalStore:
        """The store on this machine."""
        return self.shared.local


def receipt_path(workspace: Workspace, name: str) -> Path:
    """Path of the receipt of node `name`."""
    return workspace.root.joinpath(BUILD, RECEIPTS, name.replace(":", "/") + ".json")


def read_receipt(workspace: Workspace, name: str) -> Mapping[str, Digest] | None:
    """Output digests of node `name` by path, None without a readable receipt.

    A damaged receipt counts as none: the node is looked up in the store again.
    """
    return read_outputs(receipt_path(workspace, name))


def read_outputs(receipt: Path) -> Mapping[str, Digest] | None:
    """Output digests in a receipt by path, None if it is none."""
    try:
        outputs = json.loads(receipt.read_bytes())["outputs"]
        found = {}
        for path, digest in outputs.items():
            check_path(path)
            found[path] = parse(digest)
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001  whatever is wrong with it, the receipt is useless
        return None
    return found


def write_receipt(workspace: Workspace, name: str, outputs: Mapping[str, Digest]) -> None:
    """Publish the receipt of node `name`, atomically."""
    path = receipt_path(workspace, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(workspace) as directory:
        temporary = directory / "receipt"
        temporary.write_bytes(_receipt(outputs))
        temporary.chmod(0o644)
        temporary.replace(path)


def receipt_hash(outputs: Mapping[str, Digest]) -> str:
    """Sha256 of the receipt that says `outputs`."""
    return of_bytes(_receipt(outputs)).hash


def _receipt(outputs: Mapping[str, Digest]) -> bytes:
    value = {"outputs": {path: str(digest) for path, digest in outputs.items()}}
    return canonical_json(value).encode() + b"\n"


@contextmanager
def scratch(workspace: Workspace) -> Iterator[Path]:
    """Yield a private directory on the file system of `build/`, removed on exit."""
    directory = workspace.root / BUILD / TEMPORARY
    directory.mkdir(parents=True, exist_ok=True)
    with guarded.scratch(str(directory)) as path:
        yield Path(path)


def sweep(workspace: Workspace) -> None:
    """Remove what killed builds left in `build/`."""
    guarded.sweep(str(workspace.root / BUILD / TEMPORARY))


def source_files(source: Source) -> Mapping[str, Path]:
    """Files of a source by name.

    Raises BuildError if the directory is missing or lacks a required file.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(source.root) if entry.is_file())
    except OSError as error:
        raise BuildError(
            f"{source.name}: cannot read {source.root}: {error.strerror}",
            "correct `path` in the matrix",
        ) from None
    for alternatives in source.required:
        if not _matching(names, alternatives):
            raise BuildError(
                f"{source.name}: {source.root} has no {' or '.join(alternatives)}",
                "a checkpoint in Hugging Face layout is needed",
            )
    chosen = next((c.patterns for c in source.choices if _matching(names, c.marks)), ())
    return {name: source.root / name for name in _matching(names, (*source.patterns, *chosen))}


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def source_outputs(
    workspace: Workspace, source: Source, selection: Selection
) -> Mapping[str, Digest]:
    """Digests of the selected files of a source by name; the stat cache remembers them.

    Raises BuildError as `source_files`, and for a file that cannot be read.
    """
    outputs = {}
    for name, path in source_files(source).items():
        if selection.place(name) is None:
            continue
        try:
            outputs[name] = workspace.store.stat.digest(path)
        except OSError as error:
            raise BuildError(f"{source.name}: cannot read {path}: {error.strerror}") from None
    return outputs


def damaged(workspace: Workspace, node: Node, outputs: Mapping[str, Digest]) -> list[str]:
    """Paths of materialised outputs that are absent or not what they were."""
    directory = str(workspace.root / node.destination)  # joining thousands of Paths takes longer
    matches = workspace.store.stat.matches
    return [path for path, digest in outputs.items() if not matches(f"{directory}/{path}", digest)]


def materialise(
    workspace: Workspace,
    node: Node,
    outputs: Mapping[str, Digest],
    previous: Iterable[str] = (),
) -> None:
    """Link the outputs of `node` into its destination; remove what it made before and no longer does.

    Files that are right already stay as they are.
    """
    directory = workspace.root / node.destination
    for path in set(previous) - set(outputs):
        (directory / path).unlink(missing_ok=True)
    wanted = damaged(workspace, node, outputs)
    if not wanted:
        return
    with scratch(workspace) as temporary:
        for number, path in enumerate(wanted):
            destination = directory / path
            destination.parent.mkdir(parents=True, exist_ok=True)
            link = temporary / str(number)
            workspace.store.materialise(outputs[path], link)
            if destination.is_dir() and not destination.is_symlink():
                raise BuildError(
                    f"{destination} is a directory where {node.name} puts a file",
                    "move it away",
                )
            link.replace(destination)
            workspace.store.stat.record(destination, outputs[path])


def leave_elsewhere(
    workspace: Workspace,
    node: Node,
    outputs: Mapping[str, Digest],
    previous: Iterable[str] = (),
) -> None:
    """Remove what `node` made before, for outputs that are left in the remote store."""
    directory = workspace.root / node.destination
    for path in (set(previous) - set(outputs)) | set(damaged(workspace, node, outputs)):
        if not (directory / path).is_dir():
            (directory / path).unlink(missing_ok=True)


def remove(
    workspace: Workspace, node: Node, *, beside: Iterable[Path] = (), dry_run: bool = False
) -> list[Path]:
    """Remove the materialised outputs and the receipt of `node`, and directories left empty.

    So are the files `beside` them, which are about them.

    Returns the files removed, or that would be.
    """
    receipt = receipt_path(workspace, node.name)
    outputs = read_receipt(workspace, node.name) or {}
    files = [workspace.root / node.destination / path for path in outputs]
    present = [path for path in [*files, *beside, receipt] if path.is_file() or path.is_symlink()]
    if dry_run:
        return present
    for path in present:
        path.unlink()
        for parent in path.parents:
            if parent == workspace.root:
                break
            try:
                parent.rmdir()
            except OSError:
                break
    return present
