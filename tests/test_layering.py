"""The layers: who may import whom, and who may print, read the environment or use the network."""

import ast
import subprocess
import sys
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("cache", "olmo", "tasks")

# A name that ends in a slash stands for all of that folder.
DOIT = {
    "tasks/checker.py",
    "tasks/commands/",
    "tasks/graph.py",
    "tasks/run.py",
    "tasks/runners.py",
}
OLMO_OUTSIDE_ACTIONS = {
    "tasks/commands/",
    "tasks/graph.py",  # errors
    "tasks/configuration/environment.py",  # the suggestion for a misspelt variable
    "tasks/configuration/matrix.py",  # the tables of names that a matrix may use
    "tasks/memory.py",
    "tasks/configuration/mistakes.py",  # the suggestion for a misspelt name
    "tasks/configuration/models.py",
    "tasks/plan.py",
    "tasks/configuration/publication.py",
    "tasks/configuration/release.py",
    "tasks/site.py",
    "tasks/releasing/provenance.py",
    "tasks/report/",
    "tasks/display/table.py",  # the vocabulary of verification
    "tasks/verification.py",
    "tasks/verification_tools.py",
}
TVM = {
    "olmo/modeling/canonical_ir.py",
    "olmo/compilation/code_generation.py",
    "olmo/codecs/codec_kernels.py",
    "olmo/codecs/float_kernels.py",
    "olmo/compilation/compile.py",
    "olmo/operators/cpu_attention.py",
    "olmo/operators/cpu_cache_entries.py",
    "olmo/operators/cpu_group_product.py",
    "olmo/operators/cpu_product.py",
    "olmo/compilation/cpu_schedule.py",
    "olmo/operators/cpu_vectors.py",
    "olmo/modeling/entrypoints.py",
    "olmo/toolchains/cuda.py",
    "olmo/compilation/cuda_graph.py",
    "olmo/operators/gpu_attention.py",
    "olmo/operators/gpu_logit_functions.py",
    "olmo/operators/gpu_sampling.py",
    "olmo/compilation/gpu_schedule.py",
    "olmo/codecs/kernel_library.py",
    "olmo/modeling/kv_cache.py",
    "olmo/modeling/logit_functions.py",
    "olmo/modeling/lower.py",
    "olmo/modeling/lowering_target.py",
    "olmo/modeling/model.py",
    "olmo/compilation/pipeline.py",
    "olmo/modeling/pipeline_stages.py",
    "olmo/modeling/quantized_layers.py",
    "olmo/modeling/rope.py",
    "olmo/generation/runtime.py",
    "olmo/modeling/sampling_entrypoints.py",
    "olmo/compilation/schedule.py",
    "olmo/modeling/shard_functions.py",
    "olmo/generation/workers.py",
    "olmo/modeling/tensor_expression.py",
    "olmo/operators/webgpu_sort.py",
}
NETWORK = {
    "tasks/actions/hub.py",
    "cache/remote/",
    "cache/execution/operation.py",
    "tasks/commands/serve.py",
    "tasks/releasing/provenance.py",  # encodes names of packages
    "tasks/releasing/repository.py",  # uploads to the Hub
    "tasks/report/elements.py",  # escapes addresses
}
PRINTING = {"tasks/actions/__main__.py", "tasks/commands/", "olmo/embedded/train.py"}
STREAMS = {  # sys.stdout and sys.stderr
    "tasks/verification_tools.py",
    "tasks/commands/",
    "tasks/action_output.py",
    "tasks/run.py",
    "tasks/waiting.py",  # the last line of a process that a signal ends
    "olmo/cli.py",
    "olmo/__main__.py",
    "olmo/generation/console.py",
    "olmo/embedded/train.py",
}
ENVIRONMENT = {
    "tasks/graph.py",
    "tasks/display/reporter.py",
    "tasks/run.py",  # whether CI wants annotations
    "olmo/cli.py",
    "olmo/toolchains/cuda.py",  # where nvcc finds the host's compiler
    "olmo/toolchains/zig.py",  # passes it on to the linkers, with its cache directory
}


@cache
def modules() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> AbstractSet[str]:
    """Dotted names a module imports, at any depth."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@cache
def used(path: Path) -> AbstractSet[str]:
    """Attributes such as `sys.stdout` that a module uses, and functions such as `print` it calls."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found


def importers(top: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(name.partition(".")[0] == top for name in imports(path))
    }


def users(*names: str) -> set[str]:
    """Modules that use one of these names."""
    return {
        path.relative_to(ROOT).as_posix() for path in modules() if not used(path).isdisjoint(names)
    }


def outside(found: set[str], allowed: set[str]) -> set[str]:
    """Those of the modules found that are not allowed."""
    folders = tuple(name for name in allowed if name.endswith("/"))
    return {path for path in found - allowed if not path.startswith(folders or ("/",))}


def same(found: set[str], listed: set[str]) -> bool:
    """Whether modules are those that are listed, and nothing is listed in vain."""
    needed = all(any(path.startswith(name) for path in found) for name in listed)
    return needed and not outside(found, listed)


def test_cache_knows_only_itself() -> None:
    for top in ("olmo", "tasks", "doit", "tvm", "numpy"):
        assert not {path for path in importers(top) if path.startswith("cache/")}, top


def test_olmo_knows_neither_store_nor_graph() -> None:
    for top in ("cache", "tasks", "doit"):
        assert not {path for path in importers(top) if path.startswith("olmo/")}, top


def test_only_the_doit_side_imports_doit() -> None:
    assert same(importers("doit"), DOIT)


def test_only_actions_and_edges_import_olmo() -> None:
    joining = {path for path in importers("olmo") if path.startswith("tasks/")}
    assert same(joining, {"tasks/actions/", *OLMO_OUTSIDE_ACTIONS})


def test_actions_know_only_olmo() -> None:
    for path in (ROOT / "tasks/actions").glob("*.py"):
        own = {name for name in imports(path) if name.partition(".")[0] in ("cache", "tasks")}
        assert all(name.startswith("tasks.actions") for name in own), path


def test_tvm_is_imported_only_where_models_are_traced_compiled_or_run() -> None:
    assert same(importers("tvm"), TVM)


def test_the_network_is_used_only_by_the_hub_remote_stores_and_serve() -> None:
    for top in (
        "socket",
        "http",
        "urllib",
        "huggingface_hub",
        "requests",
        "httpx",
        "grpc",
        "obstore",
    ):
        assert not outside(importers(top), NETWORK), top


def test_only_commands_print() -> None:
    assert not outside(users("print"), PRINTING)
    assert not outside(users("sys.stdout", "sys.stderr"), STREAMS)


def test_the_environment_is_read_at_the_edge() -> None:
    assert not outside(users("os.environ", "os.getenv", "getenv"), ENVIRONMENT)


def test_nothing_untrusted_is_executed() -> None:
    assert users("eval", "exec", "pickle.load", "pickle.loads", "marshal.loads") == set()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("olmo", "tvm numpy doit"),
        ("olmo.configuration.config", "tvm numpy"),
        ("olmo.targets", "tvm numpy"),
        ("olmo.quantization", "tvm numpy"),
        ("olmo.configuration.compile_spec", "tvm numpy"),
        ("olmo.embedded", "tvm numpy torch"),
        ("olmo.verification.report", "tvm numpy"),
        ("cache.local.store", "tvm numpy doit olmo"),
        (
            "tasks.graph",
            (
                "tvm numpy rich psutil huggingface_hub tokenizers safetensors http.client ssl grpc obstore "
                "cryptography"
            ),
        ),
        ("tasks.graph", "logging cache.remote.store concurrent.futures olmo.weights"),
        ("tasks.run", "tvm numpy rich psutil huggingface_hub tokenizers safetensors"),
        ("tasks.run", "olmo.weights tasks.memory tasks.history tasks.report.gather"),
    ],
)
def test_imports_stay_light(module: str, absent: str) -> None:
    script = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(absent.split()) & set(done.stdout.split())


def test_no_import_cycle() -> None:
    names = {path: _name(path) for path in modules()}
    known = set(names.values())
    graph = {
        name: {found for found in imports(path) if found in known and found != name}
        for path, name in names.items()
    }
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " → ".join([*trail, name])
        if name in state:
            return
        state[name] = 1
        for other in sorted(graph[name]):
            visit(other, (*trail, name))
        state[name] = 2

    for name in sorted(graph):
        visit(name, ())


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
