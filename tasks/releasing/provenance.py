"""Where each release row comes from, as an in-toto statement with SLSA provenance.

A statement is a pure function of the graph as it is keyed now: it has no time, no host and no
name of a builder, and every machine writes the same bytes. It is no output of the package's
action, since what made an artifact may change while the artifact does not: a refactored
model that lowers to the same module makes a new statement and no new library. Who ran the
actions is said by the signatures of their results, whose keys are in the statement.

Source: https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cache.digest import Digest, of_bytes
from olmo.quantization import SHORTENED
from tasks.assess import State
from tasks.configuration.matrix import Matrix
from tasks.configuration.release import Row
from tasks.keys import Keyed
from tasks.node import Node, Selection, canonical_json, producers
from tasks.plan import ARCHITECTURE, DIST, GGUF_TOKENIZER, package_of
from tasks.realise import outputs_of
from tasks.session import Session
from tasks.workspace import read_receipt, scratch

DIRECTORY = "provenance"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:olmill:release:1"
BUILDER = "urn:olmill:any"  # whoever has these inputs makes these bytes

_WRITTEN = "provenance:1"  # of a statement that was written: what keys it is of
_DERIVED = (ARCHITECTURE, GGUF_TOKENIZER)  # made by a download, not fetched


@dataclass(frozen=True)
class _Made:
    """A node of which everything is known."""

    keyed: Keyed
    outputs: Mapping[str, Digest]


def place(node: Node) -> str:
    """Return where in the project the statement on a package lies."""
    stem = Path(json.loads(node.params)["library"]).stem
    return f"{DIST}/{DIRECTORY}/{stem}.json"


def write(session: Session, recorded: Callable[[str], str | None], names: Collection[str]) -> None:
    """Write the statements of packages among `names` that are made; a run ends with it.

    `recorded` gives the key of a node's last success. Where a node that a package needs has not
    succeeded as it is now, or the files were left elsewhere, no statement is left in dist/.
    """
    matrix, workspace = session.matrix, session.workspace
    if matrix is None:
        return
    rows = {package_of(row): row for row in matrix.rows}
    made = _Lineage(session)
    for name in names:
        if name not in rows:
            continue
        node = workspace.graph.nodes[name]
        path = workspace.root / place(node)
        untouched = _untouched(session, made.upstream(name))
        if untouched is not None and _is_written(session, path, untouched):
            continue
        known = made.of(name)
        if known is None or any(recorded(n) != m.keyed.key.hash for n, m in known.items()):
            path.unlink(missing_ok=True)
            continue
        if not all((workspace.root / DIST / file).is_file() for file in known[name].outputs):
            path.unlink(missing_ok=True)
            continue
        text = _statement(matrix, rows[name], session, known)
        if not (path.is_file() and path.read_bytes() == text.encode()):
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch(workspace) as directory:
                temporary = directory / "statement"
                temporary.write_text(text, encoding="utf-8")
                temporary.chmod(0o444)
                temporary.replace(path)
        keys = {one: m.keyed.key.hash for one, m in known.items()}
        workspace.store.stat.memo_put(_WRITTEN, path, _memo(keys))


def statement(session: Session, row: Row) -> str | None:
    """Return the statement on a row, None where something it comes from is not built."""
    assert session.matrix is not None  # noqa: S101  (the row comes from it)
    known = _Lineage(session).of(package_of(row))
    return None if known is None else _statement(session.matrix, row, session, known)


def _untouched(session: Session, names: Iterable[str]) -> Mapping[str, str] | None:
    """Return the keys of nodes of which none had to be touched in this run, None if one had."""
    decided = [session.decided.get(name) for name in names]
    keys = {
        one.node.name: one.keyed.key.hash
        for one in decided
        if one is not None and one.state is State.CURRENT and one.keyed is not None
    }
    return keys if len(keys) == len(decided) else None


def _is_written(session: Session, path: Path, keys: Mapping[str, str]) -> bool:
    """Whether a file is, byte for byte, what was written as the statement on these keys."""
    try:
        return session.workspace.store.stat.memo_get(_WRITTEN, path) == _memo(keys)
    except OSError:  # there is none
        return False


def _memo(keys: Mapping[str, str]) -> bytes:
    return of_bytes(canonical_json(dict(keys)).encode()).hash.encode()


class _Lineage:
    """Everything that nodes come from, each node keyed once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._nodes = session.workspace.graph.nodes
        self._receipts: dict[str, Mapping[str, Digest] | None] = {}
        self._made: dict[str, _Made] = {}

    def upstream(self, name: str) -> list[str]:
        """Return a node and all that it needs, the node first."""
        found = {name: None}
        pending = [name]
        while pending:
            for read in producers(self._nodes[pending.pop()]):
                if read in self._nodes and read not in found:
                    found[read] = None
                    pending.append(read)
        return list(found)

    def of(self, name: str) -> dict[str, _Made] | None:
        """Return a node and all that it needs by name; None where one of them has no receipt."""
        names = self.upstream(name)
        if any(self._receipt(one) is None for one in names):
            return None
        return {one: self._known(one) for one in names}

    def _receipt(self, name: str) -> Mapping[str, Digest] | None:
        if name not in self._receipts:
            self._receipts[name] = read_receipt(self._session.workspace, name)
        return self._receipts[name]

    def _known(self, name: str) -> _Made:
        if name not in self._made:
            keyed = self._session.keys.keyed(self._nodes[name], self._outputs)
            outputs = self._receipt(name)
            assert outputs is not None  # noqa: S101  (`of` has looked)
            self._made[name] = _Made(keyed, outputs)
        return self._made[name]

    def _outputs(self, selection: Selection) -> Mapping[str, Digest]:
        receipt = self._receipt(selection.producer) if selection.producer in self._nodes else None
        return outputs_of(self._session.workspace, selection) if receipt is None else receipt


def _statement(matrix: Matrix, row: Row, session: Session, known: Mapping[str, _Made]) -> str:
    package = known[package_of(row)]
    released = set(package.outputs.values())
    value = {
        "_type": STATEMENT,
        "subject": [_file(path, digest) for path, digest in sorted(package.outputs.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters(matrix, row, package.keyed.node),
                "internalParameters": {
                    "actions": {name: made.keyed.key.hash for name, made in sorted(known.items())},
                    **_workers(made.keyed.node for made in known.values()),
                },
                "resolvedDependencies": [
                    *_checkpoint(matrix, row, known),
                    *_sources(session, known),
                    *_code(session, known),
                    *tools(made.keyed for made in known.values()),
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "byproducts": [
                    _file(f"{name}/{path}", digest)
                    for name, made in sorted(known.items())
                    for path, digest in sorted(made.outputs.items())
                    if digest not in released and not _is_fetched(made.keyed.node, path)
                ],
            },
        },
    }
    return canonical_json(value) + "\n"


def _file(name: str, digest: Digest, **more: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest.hash}, **more}


def parameters(matrix: Matrix, row: Row, package: Node) -> dict[str, Any]:
    """Return what the matrix says of a row; a local checkpoint's place is the user's own."""
    model, encoding = matrix.models[row.model], matrix.encodings.get(row.quantization, SHORTENED)
    origin = {"repo": model.repo, "revision": model.revision, "files": list(model.weights)}
    return {
        "row": json.loads(package.params),
        "model": {
            "source": model.source,
            "conv_template": model.conv_template,
            **(origin if model.source == "hf" else {}),
        },
        "target": json.loads(matrix.targets[row.target].to_json()),
        **({"encoding": encoding} if encoding != SHORTENED else {}),
    }


def _is_fetched(node: Node, path: str) -> bool:
    return node.action == "tasks.actions.download" and path not in _DERIVED


def _checkpoint(matrix: Matrix, row: Row, known: Mapping[str, _Made]) -> Iterable[dict[str, Any]]:
    model = matrix.models[row.model]
    for name, made in sorted(known.items()):
        for path, digest in sorted(made.outputs.items()):
            if _is_fetched(made.keyed.node, path):
                uri = purl("huggingface", str(model.repo), str(model.revision))
                yield _file(f"{name}/{path}", digest, uri=f"{uri}#{quote(path)}")


def _sources(session: Session, known: Mapping[str, _Made]) -> Iterable[dict[str, Any]]:
    sources = session.workspace.graph.sources
    found = {
        f"{given.producer}/{given.path}": given.digest
        for made in known.values()
        for given in made.keyed.inputs.values()
        if given.producer in sources
    }
    return (_file(name, digest) for name, digest in sorted(found.items()))


def _code(session: Session, known: Mapping[str, _Made]) -> Iterable[dict[str, Any]]:
    actions = {made.keyed.node.action for made in known.values()}
    return (_file(f"code/{action}", session.keys.code_root(action)) for action in sorted(actions))


def _workers(nodes: Iterable[Node]) -> dict[str, dict[str, dict[str, str]]]:
    """Return what a cluster's workers had to be like for nodes, which is in their keys."""
    asked = {node.name: dict(node.platform) for node in nodes if node.platform}
    return {"workers": asked} if asked else {}


def tools(known: Iterable[Keyed]) -> Iterable[dict[str, str]]:
    """Return the packages and programs that actions run, as resources without a digest."""
    packages, programs = dict[str, str](), dict[str, str]()
    for keyed in known:
        packages.update(keyed.code.tools)
        programs.update(keyed.node.programs)
    for name, version in sorted(packages.items()):
        distribution = name.lower().replace("_", "-")
        yield {"name": f"tool/{name}", "uri": purl("pypi", distribution, version)}
    for name, version in sorted(programs.items()):
        yield {"name": f"tool/{name}", "uri": purl("generic", name, version)}


def purl(kind: str, name: str, version: str) -> str:
    """Return a package URL; the name may have a namespace before it.

    Source: https://github.com/package-url/purl-spec, character encoding.
    """
    return f"pkg:{kind}/{quote(name)}@{quote(version, safe=':')}"
