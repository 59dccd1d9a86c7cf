"""From a node and the digests it reads to its Action, whose digest is the node's key.

docs/keys.md is the grammar. The parts of an Action are also kept as flat fields, so that two
Actions of a node can be compared by name when someone asks why it is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from cache import merkle
from cache.action import Action, ActionResult, EncodedAction, encode
from cache.digest import Digest, of_bytes
from tasks.errors import BuildError
from tasks.fingerprint import Code, Sources, closure
from tasks.node import Node, Selection, canonical_json
from tasks.workspace import Workspace

KEY_SCHEMA = b"olmill-key-2"
OUTPUTS = "outputs"
INPUTS = "inputs"
PARAMS = "params.json"
TOOLS = "tools.json"
CODE = "code"

# What a worker runs an action with: its own modules, and the first Python on this path.
ENVIRONMENT = (
    ("PATH", "/opt/olmill/bin:/usr/local/bin:/usr/bin:/bin"),
    ("PYTHONPATH", CODE),
)


_REMEMBERED = 256  # selections, of the nodes that were keyed last

# What the producer of a selection makes, by path; of a source, at least what is selected.
OutputsOf = Callable[[Selection], Mapping[str, Digest]]


@dataclass(frozen=True, slots=True)
class Input:
    """One file in a node's input root: which producer's output it is."""

    producer: str
    path: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Keyed:
    """A node, its key, and everything that the key depends on.

    given: what there is to select from, for each selection of the node; producers and their
    consumers share it, so that a large graph can be keyed as a whole.
    """

    node: Node
    key: Digest  # of the Action: the key in the action cache
    given: tuple[Mapping[str, Digest], ...]
    code: Code
    code_tree: merkle.Tree

    @property
    def inputs(self) -> dict[str, Input]:
        """The node's inputs by path below `inputs/`, found anew each time."""
        return _inputs(self.node, self.given)

    @property
    def action(self) -> EncodedAction:
        """The Action and all messages below it, made anew each time."""
        parts = map(_parts, self.node.inputs, self.given)
        return _encoded(self.node, self.given, parts, self.code, self.code_tree)

    @property
    def messages(self) -> Mapping[Digest, bytes]:
        """Blobs that say what the key stands for: the Action, its Command, directories, parameters."""
        texts = (self.node.params.encode(), tools_json(self.node, self.code).encode())
        return {**self.action.blobs, **{of_bytes(text): text for text in texts}}


class Keys:
    """Computes keys of one workspace's nodes; code is read once per action and run."""

    def __init__(self, workspace: Workspace) -> None:
        self._sources = Sources(workspace.code_root, workspace.store.stat)
        self._code: dict[str, tuple[Code, merkle.Tree]] = {}
        self._selected: dict[_Selected, tuple[Mapping[str, Digest], _Parts]] = {}

    def code(self, action: str) -> Code:
        """Code of an action module, as its key sees it."""
        return self._code_tree(action)[0]

    def code_root(self, action: str) -> Digest:
        """Digest of the tree of all that `code` names."""
        return self._code_tree(action)[1].root

    def keyed(self, node: Node, outputs_of: OutputsOf) -> Keyed:
        """Key `node`, given the outputs of its producers.

        Raises BuildError if two inputs claim one path.
        """
        given = tuple(map(outputs_of, node.inputs))
        code, tree = self._code_tree(node.action)
        parts = map(self._parts, node.inputs, given)
        key = _encoded(node, given, parts, code, tree).key
        return Keyed(node, key, given, code, tree)

    def _parts(self, selection: Selection, outputs: Mapping[str, Digest]) -> _Parts:
        """Return what `_parts` does; nodes that read the same of the same follow each other."""
        selected = (id(outputs), selection.patterns, selection.into)
        known = self._selected.get(selected)
        if known is None:
            if len(self._selected) >= _REMEMBERED:
                self._selected.clear()
            # With the outputs themselves, so that no others have their identity meanwhile.
            known = self._selected[selected] = (outputs, _parts(selection, outputs))
        return known[1]

    def _code_tree(self, action: str) -> tuple[Code, merkle.Tree]:
        if action not in self._code:
            code = closure(action, self._sources)
            self._code[action] = (code, merkle.tree(code.files))
        return self._code[action]


def _inputs(node: Node, given: Iterable[Mapping[str, Digest]]) -> dict[str, Input]:
    """Return what a node selects of what there is."""
    return {
        place: Input(selection.producer, path, digest)
        for selection, outputs in zip(node.inputs, given, strict=True)
        for path, digest in outputs.items()
        if (place := selection.place(path)) is not None
    }


@dataclass(frozen=True, slots=True, eq=False)  # told apart by identity, which is quick
class _Files:
    """Files that a selection puts into one directory, by their paths in that."""

    digests: Mapping[str, Digest]


_Parts = Mapping[str, _Files]  # by the name of a directory in `inputs/`; "" is that itself
_Selected = tuple[int, tuple[str, ...], str]  # identity of outputs, and what is selected of them


class _ClaimedTwiceError(Exception):
    """Two selections give a node the same path."""


def _parts(selection: Selection, outputs: Mapping[str, Digest]) -> _Parts:
    """Return what a selection puts where, of what there is."""
    found: dict[str, dict[str, Digest]] = {}
    for path, digest in outputs.items():
        place = selection.place(path)
        if place is not None:
            directory, slash, below = place.partition("/")
            found.setdefault(directory if slash else "", {})[below or place] = digest
    return {directory: _Files(digests) for directory, digests in found.items()}


def _together(several: Iterable[_Files]) -> dict[str, Digest]:
    found: dict[str, Digest] = {}
    for one in several:
        if not found.keys().isdisjoint(one.digests):
            raise _ClaimedTwiceError
        found.update(one.digests)
    return found


@lru_cache(maxsize=256)
def _tree(several: tuple[_Files, ...]) -> merkle.Tree:
    """Return the tree of a directory; rows that follow each other have the same weights."""
    return merkle.tree(_together(several))


def _input_tree(parts: Iterable[_Parts]) -> merkle.Tree | None:
    """Return the tree of `inputs/`, None if there are none."""
    several: dict[str, tuple[_Files, ...]] = {}
    for selected in parts:
        for directory, files in selected.items():
            several[directory] = (*several.get(directory, ()), files)
    if not several:
        return None
    top = _together(several.pop("", ()))
    trees = {name: _tree(those) for name, those in several.items()}
    if not top.keys().isdisjoint(trees):
        raise _ClaimedTwiceError
    return merkle.tree({**top, **trees})


def _claimed_twice(node: Node, given: Iterable[Mapping[str, Digest]]) -> BuildError:
    """Return the error of two selections that give a node the same path, or a path in that."""
    claimed: dict[str, str] = {}
    for selection, outputs in zip(node.inputs, given, strict=True):
        for place in filter(None, map(selection.place, outputs)):
            if place in claimed:
                both = f"{selection.producer} and {claimed[place]}"
                return BuildError(f"{node.name}: {both} both give it {place}")
            claimed[place] = selection.producer
    return BuildError(f"{node.name}: one name is a file and a directory of what it reads")


def _encoded(
    node: Node,
    given: Iterable[Mapping[str, Digest]],
    parts: Iterable[_Parts],
    code: Code,
    code_tree: merkle.Tree,
) -> EncodedAction:
    entries: dict[str, Digest | merkle.Tree] = {
        PARAMS: _digest(node.params),
        TOOLS: _digest(tools_json(node, code)),
        CODE: code_tree,
    }
    try:
        inputs = _input_tree(parts)
    except _ClaimedTwiceError:
        raise _claimed_twice(node, given) from None
    if inputs is not None:
        entries[INPUTS] = inputs
    action = Action(
        arguments=("python", "-m", node.action.rpartition(".")[0], node.action),
        input_root=merkle.tree(entries),
        output_paths=(OUTPUTS,),
        platform=node.platform,
        salt=KEY_SCHEMA,
        environment=ENVIRONMENT,
    )
    return encode(action)


@lru_cache(maxsize=256)
def _digest(text: str) -> Digest:
    """Return the digest of a text that many nodes have."""
    return of_bytes(text.encode())


def tools_json(node: Node, code: Code) -> str:
    """Return the file that tells a worker which versions of which tools an action has."""
    return _tools_json(tuple(code.tools.items()), node.programs)


@lru_cache(maxsize=256)
def _tools_json(
    packages: tuple[tuple[str, str], ...], programs: tuple[tuple[str, str], ...]
) -> str:
    return canonical_json({"packages": dict(packages), "programs": dict(programs)})


@dataclass(frozen=True, slots=True)
class Known:
    """The result of an action, whether all its blobs are here, and the outputs as `made` has them."""

    result: ActionResult
    local: bool
    outputs: Mapping[str, Digest]


def lookup(workspace: Workspace, keys: Iterable[Digest]) -> dict[Digest, Known]:
    """Return what the stores know of actions, by key, where it is what an action of ours makes."""
    known = {}
    for key, found in workspace.shared.lookup(keys).items():
        try:
            known[key] = Known(found.result, found.local, made(found.result))
        except BuildError as error:
            workspace.shared.warn(f"result {key.hash}: {error}")
    return known


def made(result: ActionResult) -> Mapping[str, Digest]:
    """Outputs of a result by their paths below the output directory.

    Raises BuildError for an output outside it, which no action of ours makes.
    """
    return {_below(path): digest for path, digest in result.outputs.items()}


@lru_cache(maxsize=1024)
def _below(path: str) -> str:
    directory, _, below = path.partition("/")
    if directory != OUTPUTS or not below:
        raise BuildError(f"an output {path!r} is outside {OUTPUTS}/", "rebuild with -a")
    return sys.intern(below)


def fields(keyed: Keyed) -> dict[str, str]:
    """Flatten everything the key depends on: name of the part → its value or digest."""
    found = {"key schema": KEY_SCHEMA.decode(), "action": keyed.node.action}
    params = json.loads(keyed.node.params)
    for name, value in sorted(params.items()):
        found[f"parameter {name}"] = value if isinstance(value, str) else canonical_json(value)
    for place, given in keyed.inputs.items():
        found[f"input {place}"] = given.digest.hash
    for path, digest in keyed.code.files.items():
        found[f"code {path}"] = digest.hash
    for tool, installed in (*keyed.code.tools.items(), *keyed.node.programs):
        found[f"tool {tool}"] = installed
    for name, value in keyed.node.platform:
        found[f"platform {name}"] = value
    return found
