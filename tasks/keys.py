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
from cache.tiered import Found
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
        return _encoded(self.node, self.inputs, self.code, self.code_tree)

    @property
    def messages(self) -> Mapping[Digest, bytes]:
        """Blobs that say what the key stands for: the Action, its Command, directories, parameters."""
        texts = (self.node.params.encode(), tools_json(self.node, self.code))
        return {**self.action.blobs, **{of_bytes(text): text for text in texts}}


class Keys:
    """Computes keys of one workspace's nodes; code is read once per action and run."""

    def __init__(self, workspace: Workspace) -> None:
        self._sources = Sources(workspace.code_root, workspace.store.stat)
        self._code: dict[str, tuple[Code, merkle.Tree]] = {}

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
        key = _encoded(node, _inputs(node, given), code, tree).key
        return Keyed(node, key, given, code, tree)

    def _code_tree(self, action: str) -> tuple[Code, merkle.Tree]:
        if action not in self._code:
            code = closure(action, self._sources)
            self._code[action] = (code, merkle.tree(code.files))
        return self._code[action]


def _inputs(node: Node, given: Iterable[Mapping[str, Digest]]) -> dict[str, Input]:
    """Return what a node selects of what there is; raises BuildError if two claim one path."""
    inputs: dict[str, Input] = {}
    for selection, outputs in zip(node.inputs, given, strict=True):
        for path, digest in outputs.items():
            place = selection.place(path)
            if place is None:
                continue
            if place in inputs:
                raise BuildError(
                    f"{node.name}: {selection.producer} and {inputs[place].producer} "
                    f"both give it {place}"
                )
            inputs[place] = Input(selection.producer, path, digest)
    return inputs


def _encoded(
    node: Node, inputs: Mapping[str, Input], code: Code, tree: merkle.Tree
) -> EncodedAction:
    entries: dict[str, Digest | merkle.Tree] = {
        PARAMS: of_bytes(node.params.encode()),
        TOOLS: of_bytes(tools_json(node, code)),
        CODE: tree,
    }
    directories: dict[str, list[tuple[str, Digest]]] = {}
    for place, found in inputs.items():
        directory, _, path = place.partition("/")
        if path:
            directories.setdefault(directory, []).append((path, found.digest))
        else:
            entries[f"{INPUTS}/{place}"] = found.digest
    for directory, files in directories.items():
        entries[f"{INPUTS}/{directory}"] = _tree(tuple(files))
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
def _tree(files: tuple[tuple[str, Digest], ...]) -> merkle.Tree:
    """Return the tree of some files; rows that follow each other have the same weights."""
    return merkle.tree(dict(files))


def tools_json(node: Node, code: Code) -> bytes:
    """Return the file that tells a worker which versions of which tools an action has."""
    return _tools_json(tuple(code.tools.items()), node.programs)


@lru_cache(maxsize=256)
def _tools_json(
    packages: tuple[tuple[str, str], ...], programs: tuple[tuple[str, str], ...]
) -> bytes:
    return canonical_json({"packages": dict(packages), "programs": dict(programs)}).encode()


def lookup(workspace: Workspace, keys: Iterable[Digest]) -> dict[Digest, Found]:
    """Return what the stores know of actions, by key, where it is what an action of ours makes."""
    found = workspace.shared.lookup(keys)
    for key, one in list(found.items()):
        try:
            made(one.result)
        except BuildError as error:
            workspace.shared.warn(f"result {key.hash}: {error}")
            del found[key]
    return found


def made(result: ActionResult) -> Mapping[str, Digest]:
    """Outputs of a result by their paths below the output directory.

    Raises BuildError for an output outside it, which no action of ours makes.
    """
    prefix = f"{OUTPUTS}/"
    for path in result.outputs:
        if not path.startswith(prefix):
            raise BuildError(f"an output {path!r} is outside {prefix}", "rebuild with -a")
    return {
        sys.intern(path.removeprefix(prefix)): digest for path, digest in result.outputs.items()
    }


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
