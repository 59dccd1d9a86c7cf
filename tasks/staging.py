"""The inputs of a node where its action finds them: links to verified files, with names for users."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cache.digest import Digest
from cache.local.store import LocalStore
from tasks.errors import BuildError
from tasks.keys import Input, Keyed
from tasks.workspace import Workspace, source_files

# Makes again, or has made, what is nowhere to be had.
MakeAgain = Callable[[Collection[Input]], None]


def staged_names(workspace: Workspace, keyed: Keyed, directory: Path) -> list[tuple[str, str]]:
    """Names that users know for the paths of staged inputs, longest paths first."""
    names = {}
    for place, given in keyed.inputs.items():
        source = workspace.graph.sources.get(given.producer)
        known = str(source.root / given.path) if source else f"{given.producer}/{given.path}"
        names[str(directory / place)] = known
        if source and place != given.path:
            names[str((directory / place).parent)] = str(source.root)
    return sorted(names.items(), key=lambda item: (-len(item[0]), item[0]))


def renamed(argument: object, names: Iterable[tuple[str, str]]) -> object:
    """Return a text with the users' names of files; anything else as it is."""
    if isinstance(argument, str):
        for staged, known in names:
            argument = argument.replace(staged, known)
    return argument


def stage(
    workspace: Workspace,
    keyed: Keyed,
    directory: Path,
    make_again: MakeAgain,
    *,
    symbolic: bool,
) -> None:
    """Make the inputs of a node appear under `directory`, as links to verified files.

    Blobs get hard links, since some programs go by the name that a symbolic one leads to. With
    `symbolic` they do not: a hard link changes a blob's ctime, and it would be read again before
    anything is said about it. What is neither in the store nor in place is fetched from the remote store, or made again.
    """
    inputs = keyed.inputs
    absent = {
        given.digest: given
        for given in inputs.values()
        if given.producer in workspace.graph.nodes
        and not workspace.store.contains(given.digest)
        and not in_place(workspace, given)
    }
    lost = workspace.shared.fetch(absent)
    if lost:
        make_again([given for digest, given in absent.items() if digest in lost])
        workspace.shared.fetch(lost)  # a cluster may have made them
    for place, given in inputs.items():
        link = directory / place
        link.parent.mkdir(parents=True, exist_ok=True)
        source = workspace.graph.sources.get(given.producer)
        if source is not None:
            link.symlink_to(source_files(source)[given.path].resolve())
        elif workspace.store.contains(given.digest) or not in_place(workspace, given):
            if symbolic:
                link.symlink_to(workspace.store.blob_path(given.digest))
            else:
                workspace.store.materialise(given.digest, link)
        else:
            link.symlink_to(made_at(workspace, given))


@dataclass(frozen=True)
class HandingOn:
    """Makes outputs of a node's inputs as they are: no byte is read, copied or linked for that.

    `given` are the inputs as they are staged in `inputs`; `made` gets what was handed on, by its
    path beside `outputs`.
    """

    store: LocalStore
    given: Mapping[str, Input]
    inputs: Path
    outputs: Path
    made: dict[str, Digest] = field(default_factory=dict)

    def __call__(self, source: Path, destination: Path) -> tuple[str, int]:
        """Make an output of an input, which was verified when it was staged; say what it is."""
        digest = self.given[source.relative_to(self.inputs).as_posix()].digest
        if not self.store.contains(digest):  # it is nowhere but in place
            self.store.put_file(source.resolve(), consume=False)
        self.made[destination.relative_to(self.outputs.parent).as_posix()] = digest
        return digest.hash, digest.size


def in_place(workspace: Workspace, given: Input) -> bool:
    """Whether an output that an emptied or another store lacks is still where it was put."""
    return workspace.store.stat.matches(made_at(workspace, given), given.digest)


def made_at(workspace: Workspace, given: Input) -> Path:
    """Return where an output of a node is put."""
    return workspace.root / workspace.graph.nodes[given.producer].destination / given.path


def check_sources(workspace: Workspace, keyed: Keyed) -> None:
    """Refuse a result whose sources are no longer what the key says.

    Raises BuildError naming the file.
    """
    for given in keyed.inputs.values():
        source = workspace.graph.sources.get(given.producer)
        if source is None:
            continue
        path = source.root / given.path
        if not workspace.store.stat.matches(path, given.digest):
            raise BuildError(
                f"{path} changed while {keyed.node.name} was reading it",
                "run doit again; the half-read result was not kept",
            )
