"""A project of a real matrix whose results are in the store already, made up: no action runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from cache.action import ActionResult
from cache.digest import Digest
from cache.local.store import LocalStore
from cache.remote.store import RemoteStore
from cache.tiered import TieredStore
from tasks.configuration.matrix import load
from tasks.graph import doit_config, doit_tasks, session
from tasks.node import Node
from tasks.plan import plan
from tasks.realise import outputs_of
from tasks.session import Session
from tasks.verification import Missing

MATRIX = """
[models.olmo-tiny]
source = "embedded"

[[release]]
models = ["olmo-tiny"]
quantizations = ["q0f32", "q4f16_1"]
windows = [256]
targets = ["linux-x86_64-cpu", "windows-x86_64-cpu"]
"""
EXECUTED = {
    "state": "executed",
    "how": "on x86_64",
    "accuracy": {
        "logits_within": 1e-6,
        "questions": {
            "right": 149,
            "total": 150,
            "every": 1,
            "wrong": [{"number": 1, "question": "1 + 1?", "answer": "2", "answered": "3\n3"}],
        },
    },
    "checks": [],
}
CHECKED = {"state": "checked", "how": "PE x86_64", "checks": ["a PE file"]}
CONVERTED = {
    "quantization": "q",
    "parameters": 1000,
    "bytes": 7,
    "bits_per_parameter": 4.5,
    "weights": [{"name": "w", "max_error": 0.5, "mean_error": 0.25}],
}
READ = {
    "download": ("config.json", "architecture.json"),
    "gen_config": ("compile-spec.json", "mlc-chat-config.json"),
}
SECONDS = 2.5  # that each action is said to have run


@dataclass
class Filled:
    """A project directory and a store, which `fill` puts results into."""

    root: Path
    cache: Path
    matrix: str = MATRIX
    remote: Callable[[], RemoteStore] | None = None
    report: Callable[[Node], Any] = lambda node: EXECUTED if "linux" in node.name else CHECKED

    def session(self) -> Session:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "matrix.toml"
        path.write_text(self.matrix)
        found = load(path)
        graph = plan(found, lambda tool: Missing(f"{tool} is not here"))
        store = TieredStore(LocalStore(self.cache), self.remote)
        return session(self.root, graph, store, matrix=found)

    def fill(self, *, without: str = "nothing") -> None:
        """Put a result of every node into the store, but of those whose name has `without`."""
        current = self.session()
        made: dict[str, Mapping[str, Digest]] = {}
        for name, node in current.workspace.graph.nodes.items():
            keyed = current.keys.keyed(
                node,
                lambda chosen: made.get(chosen.producer) or outputs_of(current.workspace, chosen),
            )
            write = current.workspace.store.write
            made[name] = {p: write(data) for p, data in self.outputs(node).items()}
            if without not in name:
                result = ActionResult({f"outputs/{p}": d for p, d in made[name].items()}, SECONDS)
                current.workspace.store.put_result(keyed.key, result)

    def outputs(self, node: Node) -> dict[str, bytes]:
        if node.kind == "convert":
            report = json.dumps(CONVERTED).encode()
            return {
                "params_shard_0.bin": b"weights",
                "tensor-cache.json": b"{}",
                "report.json": report,
            }
        if node.kind in READ:
            return dict.fromkeys(READ[node.kind], node.name.encode())
        if node.kind != "package":
            return {node.name.replace(":", "-"): node.name.encode()}
        params = json.loads(node.params)
        library, directory = params["library"], params["directory"]
        manifest = {"files": {}, "verified": self.report(node)}
        return {
            f"libs/{library}": b"library",
            f"libs/{Path(library).stem}.json": json.dumps(manifest).encode(),
            f"{directory}/mlc-chat-config.json": b"{}",
            f"{directory}/params_shard_0.bin": b"weights",
            f"{directory}/tensor-cache.json": b"{}",
        }

    def doit(self, *arguments: str) -> int:
        current = self.session()
        namespace = {
            "DOIT_CONFIG": doit_config(current),
            "task_nodes": lambda: doit_tasks(current),
        }
        return DoitMain(ModuleTaskLoader(namespace)).run(list(arguments)) or 0
