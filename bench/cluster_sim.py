"""How long a large release takes on a cluster: `python bench/cluster_sim.py [WORKERS…]`.

Plans the real graph of 100 models × 8 quantizations × 4 windows × 9 targets (28,800 libraries), says
what planning it costs, and lets a list scheduler run it: whoever is free takes the ready node with
the longest way to the end. Times of nodes are those of a model with 1.2 billion parameters in
bench/RESULTS.md; they are simulated, nothing is built.
"""

from __future__ import annotations

import heapq
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of bench/, which has a cache.py

from olmo.quantizations import QUANTIZATIONS  # noqa: E402  (after the path is set)
from tasks.configuration.matrix import parse  # noqa: E402  (as above)
from tasks.node import Graph, Node, producers  # noqa: E402  (as above)
from tasks.plan import plan  # noqa: E402  (as above)
from tasks.verification import Missing  # noqa: E402  (as above)

MODELS = 100
PARAMETERS = 1_176_764_416
WINDOWS = (1024, 2048, 4096, 8192)
BITS = {  # a weight in the store, scales included
    "q0f16": 16,
    "q0bf16": 16,
    "q3f16_1": 3.6,
    "q4f16_0": 4.5,
    "q4f16_1": 4.5,
    "q4f16_2": 4.5,
    "q4bf16_1": 4.5,
    "q4f32_1": 5,
}
TARGETS = (
    "linux-x86_64-cpu",
    "linux-aarch64-cpu",
    "linux-x86_64-cuda",
    "macos-arm64-metal",
    "ios-arm64-metal",
    "windows-x86_64-cpu",
    "android-arm64-opencl",
    "webgpu",
    "wasm-cpu",
)

# Seconds, of bench/RESULTS.md ("A model of real size", "Compiling", "Conversion"), and of
# bench/package.py: weights are handed on, however large.
SECONDS = {"download": 0.4, "kernels": 2.6, "gen_config": 0.4, "package": 0.02}
CONVERT = {4.5: 3.9, 5: 3.9, 3.6: 3.9, 16: 11.6}  # by bits of a weight
LOWER = {"llvm": 4.5, "opencl": 6.4, "metal": 7.6, "cuda": 6.5}
COMPILE = {"llvm": 7.7, "opencl": 4.7, "metal": 4.7, "cuda": 32.8}
VERIFY = 30.5  # where the library runs
# Not measured at that size: WebGPU is taken for OpenCL, a check without a run for two seconds, and
# the runtime of the web for a minute, once.
OTHERS = {"check": 2.0, "wasm_runtime": 60.0}
ACTION = 0.114  # seconds of buildbox-casd for an action that does nothing
LIBRARY = {"llvm": 0.8, "opencl": 2.4, "metal": 1.5, "cuda": 1.9}  # MiB
HERE = 2  # nodes at a time on the machine that starts the build
FINISHED = ("verify", "package")


def large_matrix(count: int = MODELS) -> dict[str, Any]:
    """Return a matrix of so many models, as TOML is read."""
    models = {
        f"model-{number:03}": {
            "source": "hf",
            "repo": f"org/model-{number:03}",
            "revision": f"{number:040x}",
            "conv_template": "olmo",
        }
        for number in range(count)
    }
    assert set(BITS) <= set(QUANTIZATIONS)
    table = {
        "models": list(models),
        "quantizations": list(BITS),
        "windows": list(WINDOWS),
        "targets": list(TARGETS),
    }
    return {"models": models, "release": [table]}


def large_release() -> Graph:
    """Return the graph, and print what planning it costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    matrix = parse(large_matrix(), Path("matrix.toml").absolute())
    graph = plan(matrix, Missing)  # no tools of this machine: what needs one is checked there
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"planned {len(matrix.rows)} rows, {len(graph.nodes)} nodes", end=": ")
    print(f"{wall:.1f} s, {cpu:.1f} CPU s, peak {peak:.0f} MiB")
    return graph


def seconds(node: Node) -> float:
    """Return how long a node's action takes."""
    overhead = ACTION if node.remote else 0.0
    if node.kind == "convert":
        return CONVERT[BITS[node.name.split(":")[2]]] + overhead
    if node.kind == "lower":
        return LOWER.get(_kind(json.loads(node.params)["kind"]), LOWER["llvm"]) + overhead
    if node.kind == "compile":
        return COMPILE[_kind(json.loads(node.params)["target"]["tvm"]["kind"])] + overhead
    if node.kind == "verify":
        runs = node.action.endswith(".verify")
        return (VERIFY if runs else OTHERS["check"]) + overhead
    return {**SECONDS, **OTHERS}[node.kind] + overhead


def stored(nodes: Iterable[Node]) -> Mapping[str, float]:
    """Return what the CAS holds in the end, in GiB: checkpoints, weights and libraries."""
    found = Counter[str]()
    for node in nodes:
        if node.kind == "download":
            found["checkpoints (float32)"] += PARAMETERS * 4 / 2**30
        elif node.kind == "convert":
            found["weights"] += PARAMETERS * BITS[node.name.split(":")[2]] / 8 / 2**30
        elif node.kind == "compile":
            found["libraries"] += (
                LIBRARY[_kind(json.loads(node.params)["target"]["tvm"]["kind"])] / 1024
            )
    return found


def scheduled(nodes: Mapping[str, Node], times: Mapping[str, float], workers: int) -> float:
    """Return the seconds until the last node ends, with so many workers."""
    consumers: dict[str, list[str]] = {name: [] for name in nodes}
    waiting: dict[str, int] = {}
    for name, node in nodes.items():
        read = [one for one in producers(node) if one in nodes]
        waiting[name] = len(read)
        for one in read:
            consumers[one].append(name)
    ways = longest(nodes, times)
    free = {True: workers, False: HERE}
    ready: dict[bool, list[tuple[float, str]]] = {True: [], False: []}
    for name in (name for name, count in waiting.items() if not count):
        heapq.heappush(ready[nodes[name].remote], (-ways[name], name))
    running: list[tuple[float, str]] = []
    now = 0.0
    while running or any(ready.values()):
        for there, queue in ready.items():
            while queue and free[there]:
                _, name = heapq.heappop(queue)
                free[there] -= 1
                heapq.heappush(running, (now + times[name], name))
        now, name = heapq.heappop(running)
        free[nodes[name].remote] += 1
        for consumer in consumers[name]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                heapq.heappush(ready[nodes[consumer].remote], (-ways[consumer], consumer))
    return now


def longest(nodes: Mapping[str, Node], times: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds from the start of each node to the end of everything that waits for it."""
    ways = dict.fromkeys(nodes, 0.0)
    for name in reversed(nodes):  # consumers before producers
        ways[name] += times[name]
        for one in producers(nodes[name]):
            if one in ways:
                ways[one] = max(ways[one], ways[name])
    return ways


def _kind(kind: str) -> str:
    return "opencl" if kind in ("adreno", "webgpu") else kind


def hours(value: float) -> str:
    """Return seconds in words."""
    return f"{value / 3600:.1f} h" if value >= 3600 else f"{value / 60:.1f} min"


def main() -> None:
    """Print the tables of the release."""
    counts = [int(argument) for argument in sys.argv[1:]] or [1, 16, 64, 256, 1024]
    graph = large_release()
    for finished in FINISHED:
        nodes = {
            name: node
            for name, node in graph.nodes.items()
            if finished == "package" or node.kind != "package"
        }
        times = {name: seconds(node) for name, node in nodes.items()}
        kinds = Counter(node.kind for node in nodes.values())
        there = sum(times[name] for name, node in nodes.items() if node.remote)
        here = sum(times[name] for name, node in nodes.items() if not node.remote)
        critical = max(longest(nodes, times).values())
        print(f"\nuntil {finished}: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items()))
        print(f"work there {hours(there)}, here {hours(here)}; critical path {critical:.0f} s")
        for workers in counts:
            print(f"  {workers} workers: {hours(scheduled(nodes, times, workers))}")
    sizes = stored(graph.nodes.values())
    print("\nin the CAS: " + ", ".join(f"{what} {size:,.0f} GiB" for what, size in sizes.items()))


if __name__ == "__main__":
    main()
