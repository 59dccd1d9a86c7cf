"""Inputs where actions find them, and inputs that an action hands on as outputs."""

import json
import os
from pathlib import Path

import pytest

from cache.digest import Digest, of_bytes
from cache.errors import MissingBlob
from cache.local.store import LocalStore
from cache.tiered import TieredStore
from tasks.board import Board
from tasks.graph import session
from tasks.node import Node, Selection, canonical_json, graph
from tasks.realise import execute, realise
from tasks.session import Session
from tasks.workspace import materialise, write_receipt

FILES = {
    "model": {"params_shard_0.bin": b"weights", "mlc-chat-config.json": b"{}"},
    "library": {"library.so": b"library"},
    "verify": {"report.json": b'{"state": "checked"}'},
}
PARAMS = {
    "model": "m", "quantization": "q", "context_window_size": 1, "target": "t",
    "directory": "m-q-ctx1-MLC", "library": "m-q-ctx1-t.so",
}  # fmt: skip


@pytest.fixture
def current(tmp_path: Path) -> Session:
    """A session in which everything that a package reads is made."""
    nodes = [Node(f"{kind}:m", "none", "{}", (), f"build/{kind}") for kind in FILES]
    inputs = tuple(Selection(f"{kind}:m", ("*",), kind) for kind in FILES)
    package = Node("package:m", "tasks.actions.package", canonical_json(PARAMS), inputs, "dist")
    made = session(tmp_path, graph([*nodes, package]), TieredStore(LocalStore(tmp_path / "cache")))
    for node in nodes:
        files = FILES[node.kind]
        outputs = {name: made.workspace.store.write(data) for name, data in files.items()}
        write_receipt(made.workspace, node.name, outputs)
    return made


def packaged(current: Session) -> dict[str, Digest]:
    """Package, as a run does."""
    workspace = current.workspace
    board = Board(workspace.graph.nodes)
    node = workspace.graph.nodes["package:m"]
    return dict(realise(workspace, current.keys, node, board, lambda _: ()).outputs)


def test_what_is_handed_on_is_what_it_was(current: Session) -> None:
    outputs = packaged(current)
    assert outputs["m-q-ctx1-MLC/params_shard_0.bin"] == of_bytes(b"weights")
    assert outputs["libs/m-q-ctx1-t.so"] == of_bytes(b"library")
    place = current.workspace.root / "dist"
    assert {path: of_bytes((place / path).read_bytes()) for path in outputs} == outputs
    manifest = json.loads((place / "libs/m-q-ctx1-t.json").read_bytes())
    assert manifest["files"] == {
        path: {"sha256": digest.hash, "size": digest.size}
        for path, digest in outputs.items()
        if path != "libs/m-q-ctx1-t.json"
    }


def test_what_is_handed_on_is_left_alone(current: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status stays what it was, so that the stat cache goes on knowing what it holds."""
    workspace = current.workspace
    blob = workspace.store.blob_path(of_bytes(b"weights"))
    before = blob.stat()
    node = workspace.graph.nodes["package:m"]
    keyed = current.keys.keyed(node, lambda selection: outputs_of(selection.producer))
    monkeypatch.setattr("cache.local.store.LocalStore.materialise", None)
    execute(workspace, [keyed], refuse)
    after = blob.stat()
    assert (after.st_nlink, after.st_ctime_ns) == (before.st_nlink, before.st_ctime_ns)


def test_what_is_only_in_place_is_stored(current: Session) -> None:
    workspace = current.workspace
    for kind, files in FILES.items():
        node = workspace.graph.nodes[f"{kind}:m"]
        materialise(workspace, node, {name: of_bytes(data) for name, data in files.items()})
    for blob in (workspace.store.root / "cas").rglob("*"):
        if blob.is_file():
            blob.unlink()
    outputs = packaged(current)
    assert not workspace.store.missing(outputs.values())


def test_what_is_damaged_is_not_handed_on(current: Session) -> None:
    """Not even if that happens after it was staged."""
    workspace = current.workspace
    store = workspace.store
    blob = store.blob_path(of_bytes(b"weights"))
    node = workspace.graph.nodes["package:m"]
    keyed = current.keys.keyed(node, lambda selection: outputs_of(selection.producer))
    (result,), _ = execute(workspace, [keyed], refuse)
    blob.chmod(0o644)
    blob.write_bytes(b"WEIGHTS")
    os.utime(blob, ns=(0, 0))
    with pytest.raises(MissingBlob):
        store.put_result(keyed.key, result)


def outputs_of(name: str) -> dict[str, Digest]:
    return {path: of_bytes(data) for path, data in FILES[name.partition(":")[0]].items()}


def refuse(_lost: object) -> None:
    pytest.fail("nothing is lost")
