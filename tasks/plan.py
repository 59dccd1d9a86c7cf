"""From a matrix to the graph of nodes that builds it.

Names are `kind:model[:quantization[:window[:target]]]`, `kernels:host` and `wasm_runtime:web`.
Behind the window stands what a row has of several devices. A node is shared by every row it serves.
"""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from olmo.errors import OlmoError
from olmo.quantization import SHORTENED
from olmo.quantizations import QUANTIZATIONS
from olmo.target import Target, symbol_prefix
from olmo.toolchains.toolchain import PROGRAMS, tools
from olmo.wasm.native import NATIVE
from tasks.configuration.matrix import Matrix
from tasks.configuration.models import Model
from tasks.configuration.release import Devices, Row
from tasks.node import Choice, Graph, Node, Selection, Source, canonical_json, graph
from tasks.verification import CHECK, HERMETIC, Find, Missing, find, way

PACKAGE = "package"  # the kind of what finishes a row
KINDS = (
    "download",
    "weights",
    "kernels",
    "wasm_runtime",
    "convert",
    "gen_config",
    "lower",
    "compile",
    "verify",
    PACKAGE,
)

CONFIG = ("config.json",)
TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
)
CHAT = ("generation_config.json", *TOKENIZER)
TIKTOKEN = ("*.tiktoken",)  # becomes a tokenizer.json
SAFETENSORS = Choice(
    ("model.safetensors", "model.safetensors.index.json"),
    ("*.safetensors", "model.safetensors.index.json"),
)
TORCH = Choice(
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ("*.bin", "pytorch_model.bin.index.json"),
)
GGUF = Choice(("*.gguf",), ("*.gguf",))
# The formats of checkpoints: of several in one place, the first is read (olmo.checkpoints.checkpoint_files).
FORMATS = (SAFETENSORS, TORCH, GGUF)
WEIGHTS = tuple(pattern for choice in FORMATS for pattern in choice.patterns)
CONVERTED = ("tensor-cache.json", "tensor-cache-b16.json", "params_shard_*.bin")

# Where conversion has kernels. All are made on every machine, so that keys are the same everywhere.
KERNEL_HOSTS = ("linux-x86_64", "linux-aarch64")

WASM_RUNTIME = "wasm_runtime:web"  # of every library for WebAssembly
WASM_SOURCES = Source("sources:web", NATIVE, ("*.h", "*.c", "*.cc"))

ARCHITECTURE = "architecture.json"
GGUF_TOKENIZER = "gguf-tokenizer.json"
COMPILE_SPEC = "compile-spec.json"
CHAT_CONFIG = "mlc-chat-config.json"
DIST = "dist"


def release_directory(row: Row) -> str:
    """Name of the directory in dist/ that holds a row's configuration, tokenizer and weights."""
    return f"{row.model}-{row.quantization}-ctx{row.variant}-MLC"


def library_name(row: Row, suffix: str) -> str:
    """Name of a row's library in dist/libs/."""
    return f"{row.model}-{row.quantization}-ctx{row.variant}-{row.target}{suffix}"


def plan(matrix: Matrix, find: Find = find) -> Graph:
    """Nodes for every row of the matrix, each once, and the sources they read.

    `find` looks for the tools of verification on this machine.
    """
    nodes: dict[str, Node] = {}
    sources: dict[str, Source] = {}
    find = cache(find)
    targets = {
        name: json.loads(matrix.targets[name].to_json()) for name in {r.target for r in matrix.rows}
    }
    for row in matrix.rows:
        model = matrix.models[row.model]
        for source in _sources(model):
            sources[source.name] = source
        if _is_wasm(matrix, row):
            sources[WASM_SOURCES.name] = WASM_SOURCES
        found = {tool: find(tool) for tool in way(matrix.targets[row.target]).tools}
        sources.update((tool.name, tool) for tool in found.values() if isinstance(tool, Source))
        for name, make in _row_nodes(matrix, row, model, found, targets[row.target]).items():
            if name not in nodes:  # most rows share most of what they need
                nodes[name] = make()
    return graph(nodes.values(), sources.values())


@cache
def _quantized(name: str) -> Mapping[str, Any]:
    """Return what keys say of a quantization."""
    return QUANTIZATIONS[name].to_json()


def package_of(row: Row) -> str:
    """Name of the node that finishes a row."""
    return f"{PACKAGE}:{row}"


def convert_of(row: Row) -> str:
    """Name of the node that converts a row's weights."""
    return f"convert:{row.model}:{row.quantization}{row.devices.of_weights}"


def _node(
    name: str, action: str, params: Mapping[str, Any], *inputs: Selection, **options: Any
) -> Node:
    destination = f"build/{name.replace(':', '/')}"
    module = f"tasks.actions.{action}"
    text = sys.intern(
        canonical_json(params)
    )  # that of libraries of one kind is large, and the same
    return Node(name, module, text, inputs, destination, **options)


def _toolchain(kind: str, workers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what a node says of the programs that compiling for a kind of target runs.

    Where this machine lacks them, `workers` has the versions on a cluster, if there is one.
    """
    try:
        return {"programs": tuple(sorted(tools(kind).items()))}
    except OlmoError as error:
        programs = {name: workers[name] for name in PROGRAMS.get(kind, ()) if name in workers}
        known = len(programs) == len(PROGRAMS.get(kind, ()))
        return {
            "missing": f"{error}\nhint: {error.hint}",
            "programs": tuple(sorted(programs.items())) if known else (),
        }


def _remote(matrix: Matrix, target: str | None = None) -> Mapping[str, Any]:
    """Return what a node says that a cluster may run: what is asked of the worker.

    Those are nodes that read nothing but their inputs. `download`, `weights` and what verifies with
    programs of this machine (Node, Chromium, emulated machines) are not among them; neither are
    `gen_config` and `package`, which take less time than sending what they read.
    """
    return {"remote": True, "platform": matrix.cluster.properties(target)}


def _sources(model: Model) -> list[Source]:
    found = []
    if model.path is not None:
        named = tuple(glob.escape(file) for file in model.weights)
        formats = (Choice(named, named),) if named else FORMATS
        weights = tuple(pattern for choice in formats for pattern in choice.marks)
        config = named or (*CONFIG, *GGUF.marks)  # a GGUF file has its configuration inside
        found.append(
            Source(
                f"source:{model.name}",
                model.path,
                (*CONFIG, *CHAT, *TIKTOKEN),
                required=(config, weights),
                choices=formats,
            )
        )
    if model.questions is not None:
        questions = model.questions
        name = f"questions:{model.name}"
        pattern = (glob.escape(questions.name),)
        found.append(Source(name, questions.parent, pattern, required=(pattern,)))
    return found


def _row_nodes(
    matrix: Matrix,
    row: Row,
    model: Model,
    found: Mapping[str, Source | Missing],
    described: Mapping[str, Any],
) -> Mapping[str, Callable[[], Node]]:
    """Return how each node is made that a row needs, by name."""
    target = matrix.targets[row.target]
    download = f"download:{row.model}"
    devices = row.devices
    convert = convert_of(row)
    configured = f"{row.model}:{row.quantization}:{row.window}{devices.of_library}"
    gen_config = f"gen_config:{configured}"
    lower = f"lower:{configured}:{target.kind}"
    compiled = f"compile:{row}"
    verify = f"verify:{row}"
    source = f"source:{model.name}" if model.path else None
    fetched = download if model.weights else f"weights:{row.model}"  # a GGUF file is both
    weights = source or fetched
    library = library_name(row, target.suffix)
    directory = release_directory(row)
    quantized = _quantized(row.quantization)
    library_params = {
        "target": described,
        "system_lib_prefix": symbol_prefix(row.model, row.quantization)
        if target.suffix == ".tar"
        else None,
    }
    verify_inputs = [
        Selection(convert, CONVERTED, "model"),
        Selection(gen_config, (CHAT_CONFIG, *TOKENIZER), "model"),
        Selection(compiled, ("*",), "library"),
    ]
    if model.questions is not None:
        verify_inputs.append(Selection(f"questions:{model.name}", ("*",), "questions"))
    make: dict[str, Callable[[], Node]] = {download: lambda: _download(model, download)}
    if weights not in (source, download):
        make[weights] = lambda: _weights(model, weights)
    for host in KERNEL_HOSTS:
        kernels = f"kernels:{host}"
        make[kernels] = partial(_node, kernels, "kernels", {"host": host}, **_remote(matrix))
    if _is_wasm(matrix, row):
        make[WASM_RUNTIME] = lambda: _wasm_runtime(matrix)
    make[convert] = lambda: _node(
        convert,
        "convert",
        {
            "quantization": quantized,
            **_encoding(matrix, row),
            **({"shards": devices.shards} if devices.presharded else {}),
        },
        Selection(download, (ARCHITECTURE,)),
        Selection(weights, WEIGHTS, "checkpoint"),
        *(Selection(f"kernels:{host}", ("*",), "kernels") for host in KERNEL_HOSTS),
        batch=True,
        **_remote(matrix),
    )
    make[gen_config] = lambda: _node(
        gen_config,
        "gen_config",
        {
            "quantization": quantized,
            "context_window_size": row.window,
            "conv_template": model.conv_template,
            **_parallel(devices),
        },
        Selection(download, (*CONFIG, GGUF_TOKENIZER), "checkpoint"),
        Selection(source or download, (*CHAT, *TIKTOKEN), "checkpoint"),
    )
    make[lower] = lambda: _node(
        lower,
        "lower",
        {"kind": target.kind},
        Selection(gen_config, (COMPILE_SPEC,)),
        **_remote(matrix),
    )
    make[compiled] = lambda: _node(
        compiled,
        "compile",
        library_params,
        Selection(lower, ("*",)),
        *([Selection(WASM_RUNTIME, ("*",), "runtime")] if _is_wasm(matrix, row) else []),
        **_toolchain(target.kind, matrix.cluster.programs),
        **_remote(matrix, row.target),
    )
    make[verify] = lambda: _verify(
        verify,
        target,
        {"quantization": quantized, **library_params},
        verify_inputs,
        found,
        _remote(matrix, row.target),
    )
    make[package_of(row)] = lambda: Node(
        package_of(row),
        "tasks.actions.package",
        canonical_json(
            {
                "model": row.model,
                "quantization": row.quantization,
                "context_window_size": row.window,
                **_parallel(devices),
                "target": row.target,
                "directory": directory,
                "library": library,
            }
        ),
        (
            Selection(convert, CONVERTED, "model"),
            Selection(gen_config, (CHAT_CONFIG, *TOKENIZER), "model"),
            Selection(compiled, ("*",), "library"),
            Selection(verify, ("*",), "verify"),
        ),
        DIST,
    )
    return make


def _encoding(matrix: Matrix, row: Row) -> Mapping[str, Any]:
    """Return the parameter of a conversion that the matrix gives, if it does."""
    chosen = matrix.encodings.get(row.quantization, SHORTENED)
    return {} if chosen == SHORTENED else {"encoding": chosen}


def _parallel(devices: Devices) -> dict[str, int]:
    """Return MLC's names for the devices; of one device none, so that it keys nothing."""
    counts = {
        "tensor_parallel_shards": devices.shards,
        "pipeline_parallel_stages": devices.stages,
    }
    return {name: count for name, count in counts.items() if count > 1}


def _is_wasm(matrix: Matrix, row: Row) -> bool:
    return matrix.targets[row.target].suffix == ".wasm"


def _wasm_runtime(matrix: Matrix) -> Node:
    sources = Selection(WASM_SOURCES.name, ("*",), "native")
    return _node(WASM_RUNTIME, "wasm_runtime", {}, sources, **_remote(matrix))


def _verify(
    name: str,
    target: Target,
    params: Mapping[str, Any],
    inputs: Sequence[Selection],
    found: Mapping[str, Source | Missing],
    remote: Mapping[str, Any],
) -> Node:
    """Return the node that verifies a library, or checks what can be without a missing tool."""
    missing = next((tool for tool in found.values() if isinstance(tool, Missing)), None)
    if missing is not None:
        told = {"what": missing.what, "install": missing.install}
        return _node(name, CHECK, {**params, "missing": told}, *inputs, **remote)
    reads = [
        Selection(tool.name, tool.patterns, place)
        for place, tool in found.items()
        if isinstance(tool, Source)
    ]
    action = way(target).action
    options = remote if action in HERMETIC else {}
    return _node(name, action, {**params, "missing": None}, *inputs, *reads, **options)


def _download(model: Model, name: str) -> Node:
    if model.path is not None:
        patterns = (*CONFIG, *GGUF.patterns)
        return _node(name, "inspect", {}, Selection(f"source:{model.name}", patterns))
    params = {**_commit(model), "files": [*CONFIG, *CHAT]}
    if model.weights:
        (params["gguf"],) = model.weights
    return _node(name, "download", params)


def _weights(model: Model, name: str) -> Node:
    """Return the node that fetches weights alone: whoever builds libraries needs none."""
    marks = [choice.marks for choice in (SAFETENSORS, TORCH)]
    return _node(name, "download", {**_commit(model), "weights": marks})


def _commit(model: Model) -> dict[str, Any]:
    return {"repo": model.repo, "revision": model.revision}
