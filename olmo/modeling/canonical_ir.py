"""The canonical text of an IRModule: equal for equal programs, on every machine and in every run.

TVM's JSON graph carries source positions (with absolute paths) and the names of local variables of
the Python functions that built it. Neither is part of the program: positions are dropped, and
variables are numbered in the order of the graph. Names that callers see stay: functions, their
parameters, and the symbolic dimensions of these.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json
from collections.abc import Iterator
from typing import Any

import tvm
from tvm_ffi.serialization import from_json_graph_str

_Node = dict[str, Any]


def dump(module: tvm.IRModule) -> bytes:
    """Return the canonical JSON of `module`; `load` reads it back.

    Functions are in the order of their names.
    """
    ordered = sorted(module.functions_items(), key=lambda item: str(item[0].name_hint))
    plain = tvm.IRModule(dict(ordered), attrs=module.attrs)
    graph = json.loads(tvm.ir.save_json(plain))
    _drop_positions(graph["nodes"])
    _number_variables(graph["nodes"])
    # Loading and saving leaves out the nodes that nothing refers to any more.
    graph = json.loads(tvm.ir.save_json(from_json_graph_str(json.dumps(graph))))
    return json.dumps(graph, sort_keys=True, separators=(",", ":")).encode()


def load(data: bytes) -> tvm.IRModule:
    """Return the module whose canonical JSON is `data`."""
    # tvm.ir.load_json would look for formats of older versions first, which takes longer than this.
    return from_json_graph_str(data.decode())


def _drop_positions(nodes: list[_Node]) -> None:
    nothing = next(i for i, node in enumerate(nodes) if node["type"] == "None")
    for node in nodes:
        data = node.get("data")
        if isinstance(data, dict) and "span" in data:
            data["span"] = nothing


def _number_variables(nodes: list[_Node]) -> None:
    kept = set(_visible_variables(nodes))
    local = [
        node
        for i, node in enumerate(nodes)
        if node["type"] in {"ir.Var", "relax.expr.DataflowVar"} and i not in kept
    ]
    for number, node in enumerate(local):
        node["data"]["name"] = len(nodes)
        nodes.append({"type": "ffi.String", "data": f"v{number}"})


def _visible_variables(nodes: list[_Node]) -> Iterator[int]:
    """Yield the parameters of Relax functions and the symbolic dimensions of their shapes."""
    for node in nodes:
        if node["type"] == "relax.expr.Function":
            for parameter in nodes[node["data"]["params"]]["data"]:
                yield parameter
                yield from _dimensions(nodes, nodes[parameter]["data"]["ty"])


def _dimensions(nodes: list[_Node], type_index: int) -> Iterator[int]:
    node = nodes[type_index]
    if node["type"] == "relax.TensorType":
        shape = nodes[node["data"]["shape"]]
        values = shape["data"]["values"] if shape["type"] == "relax.expr.ShapeExpr" else None
    elif node["type"] == "relax.ShapeType":
        values = node["data"]["values"]
    else:
        values = None
    if values is not None and nodes[values]["type"] == "ffi.Array":
        yield from (i for i in nodes[values]["data"] if nodes[i]["type"] == "ir.Var")
