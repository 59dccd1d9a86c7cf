import json

import numpy as np
import tvm
from tvm import relax, te
from tvm.script import tirx as T  # noqa: N812  (TVM's own name for it)

from olmo.modeling import canonical_ir


@T.prim_func(s_tir=True)
def add_one(a_handle: T.handle, b_handle: T.handle):  # noqa: ANN201  (TVMScript, not Python)
    n = T.int64()
    a = T.match_buffer(a_handle, (n,), "float32")
    b = T.match_buffer(b_handle, (n,), "float32")
    for i in T.serial(n):
        with T.sblock("add"):
            j = T.axis.spatial(n, i)
            b[j] = a[j] + T.float32(1)


@T.prim_func(s_tir=True)
def renamed(x_handle: T.handle, y_handle: T.handle):  # noqa: ANN201  (TVMScript, not Python)
    # the same program on other lines, under other names
    length = T.int64()
    x = T.match_buffer(x_handle, (length,), "float32")
    y = T.match_buffer(y_handle, (length,), "float32")

    for step in T.serial(length):
        with T.sblock("add"):
            at = T.axis.spatial(length, step)
            y[at] = x[at] + T.float32(1)


def module(function: object, name: str = "add_one") -> tvm.IRModule:
    return tvm.IRModule({name: function.with_attr("global_symbol", name)})


def relax_module(name: str, dimension: str) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    n = tvm.tirx.Var(dimension, "int64")
    x = relax.Var(name, relax.TensorType((n, 4), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_te(lambda a: te.compute(a.shape, lambda i, j: a[i, j] * 2), x)
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    return builder.finalize()


def test_names_and_lines_do_not_count() -> None:
    assert canonical_ir.dump(module(add_one)) == canonical_ir.dump(module(renamed))


def test_neither_positions_nor_paths_are_in_it() -> None:
    plain = tvm.ir.save_json(module(add_one))
    assert "ir.Span" in plain  # or this test would test nothing
    assert "ir.SourceName" in plain
    data = canonical_ir.dump(module(add_one)).decode()
    assert "ir.Span" not in data
    assert "/" not in "".join(node["data"] for node in strings(data))


def strings(data: str) -> list[dict[str, str]]:
    return [n for n in json.loads(data)["nodes"] if n["type"] in {"ffi.String", "ir.SourceName"}]


def test_what_callers_see_stays() -> None:
    data = canonical_ir.dump(relax_module("hidden_states", "seq_len")).decode()
    assert {"hidden_states", "seq_len", "main"} <= {node["data"] for node in strings(data)}
    assert data != canonical_ir.dump(relax_module("hidden_states", "rows")).decode()
    assert data != canonical_ir.dump(relax_module("x", "seq_len")).decode()


def test_another_program_is_another_text() -> None:
    function = add_one.with_attr("tirx.noalias", True)
    assert canonical_ir.dump(module(add_one)) != canonical_ir.dump(module(function))
    assert canonical_ir.dump(module(add_one)) != canonical_ir.dump(module(add_one, "other"))


def test_the_order_of_functions_does_not_count() -> None:
    pair = {"a": add_one, "b": renamed}
    functions = {n: f.with_attr("global_symbol", n) for n, f in pair.items()}
    backwards = dict(reversed(functions.items()))
    assert canonical_ir.dump(tvm.IRModule(functions)) == canonical_ir.dump(tvm.IRModule(backwards))


def test_loading_gives_the_program_back() -> None:
    data = canonical_ir.dump(module(add_one))
    loaded = canonical_ir.load(data)
    assert canonical_ir.dump(loaded) == data
    target = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu"})
    compiled = tvm.tirx.build(loaded, target=target)
    x = tvm.runtime.tensor(np.arange(5, dtype=np.float32))
    y = tvm.runtime.tensor(np.zeros(5, np.float32))
    compiled["add_one"](x, y)
    assert y.numpy().tolist() == [1, 2, 3, 4, 5]
