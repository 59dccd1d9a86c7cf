"""What packaging a row of large weights costs: `python bench/package.py [MiB]`.

Weights of 1 GiB in shards of 32 MiB, by default, are put into a fresh store, and packaged for nine
targets and two windows, one row after another, as a run does it: the key, its lookup, staging, the
action, keeping its result, dist/. Beside it stands one sha256 of the same bytes, which is what a row
would cost at least if its weights were read.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of bench/, which has a cache.py

from cache.local.store import LocalStore  # noqa: E402  (after the path is set)
from cache.tiered import TieredStore  # noqa: E402  (as above)
from tasks.board import Board  # noqa: E402  (as above)
from tasks.graph import session  # noqa: E402  (as above)
from tasks.node import Node, Selection, canonical_json, graph  # noqa: E402  (as above)
from tasks.realise import realise  # noqa: E402  (as above)
from tasks.session import Session  # noqa: E402  (as above)
from tasks.workspace import write_receipt  # noqa: E402  (as above)

SHARD = 32 << 20
WINDOWS = (1024, 2048)
TARGETS = 9


def package(window: int, target: int) -> Node:
    """Return the node that packages a row."""
    params = {
        "model": "m",
        "quantization": "q0f16",
        "context_window_size": window,
        "target": str(target),
        "directory": f"m-ctx{window}-MLC",
        "library": f"m-ctx{window}-{target}.so",
    }
    inputs = tuple(Selection(f"{into}:m", ("*",), into) for into in ("model", "library", "verify"))
    name = f"package:m:{window}:{target}"
    return Node(name, "tasks.actions.package", canonical_json(params), inputs, "dist")


def project(root: Path, shards: int) -> Session:
    """Return a session in which everything that packages read is made."""
    made = {
        "model": {f"params_shard_{n}.bin": SHARD for n in range(shards)},
        "library": {"library.so": 1 << 20},
        "verify": {"report.json": 0},
    }
    nodes = [Node(f"{kind}:m", "none", "{}", (), f"build/{kind}") for kind in made]
    nodes += [package(window, target) for window in WINDOWS for target in range(TARGETS)]
    current = session(root, graph(nodes), TieredStore(LocalStore(root / "cache")))
    store = current.workspace.store
    for kind, files in made.items():
        outputs = {}
        for name, size in files.items():
            with store.scratch() as directory:
                (directory / name).write_bytes(os.urandom(size) or b'{"state": "checked"}')
                outputs[name] = store.put_file(directory / name, consume=True)
        write_receipt(current.workspace, f"{kind}:m", outputs)
    return current


def main() -> None:
    """Package every row, and print what each took."""
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory() as directory:
        current = project(Path(directory), mebibytes * 2**20 // SHARD)
        board = Board(current.workspace.graph.nodes)
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(mebibytes * 2**20 // SHARD):
            digest = hashlib.sha256(bytes(SHARD)).hexdigest()
            assert digest, number
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"one sha256 of {mebibytes} MiB in memory: {wall:.3f} s wall, {cpu:.3f} s CPU")
        for window in WINDOWS:
            figures = []
            for target in range(TARGETS):
                node = current.workspace.graph.nodes[f"package:m:{window}:{target}"]
                wall, cpu = time.perf_counter(), time.process_time()
                realise(current.workspace, current.keys, node, board, lambda _: ())
                figures.append((time.perf_counter() - wall, time.process_time() - cpu))
            for what, some in (("first", figures[:1]), ("others", figures[1:])):
                wall, cpu = (statistics.median(each) for each in zip(*some, strict=True))
                print(f"window {window}, {what}: {wall:.3f} s wall, {cpu:.3f} s CPU a row")


if __name__ == "__main__":
    main()
