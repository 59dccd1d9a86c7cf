import ml_dtypes
import numpy as np
import pytest
import tvm

from olmo.modeling.shard_functions import shard_functions
from olmo.parallel import Division
from olmo.weights import Parameter

DIVISIONS = [
    Division(Parameter("a", (24, 5), "float16"), "_shard_rows", 0, (12, 3, 9), 3),
    Division(Parameter("b", (4, 6), "uint32"), "_shard_columns", 1, (6,), 2),
    Division(Parameter("c", (8, 4), "float8_e4m3fn"), "_shard_bytes", 0, (4, 4), 2),
    Division(Parameter("d", (8, 4), "bfloat16"), "_shard_brain", 0, (8,), 4),
]
DTYPES = {"float8_e4m3fn": ml_dtypes.float8_e4m3fn, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture(scope="module")
def library() -> tvm.runtime.Module:
    target = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu"})
    return tvm.compile(tvm.IRModule(dict(shard_functions(DIVISIONS))), target)


@pytest.mark.parametrize("division", DIVISIONS, ids=lambda d: d.function)
def test_parts_are_the_pieces(division: Division, library: tvm.runtime.Module) -> None:
    dtype = DTYPES.get(division.whole.dtype, division.whole.dtype)
    whole = np.arange(np.prod(division.whole.shape)).reshape(division.whole.shape).astype(dtype)
    given = tvm.runtime.tensor(whole)
    shape = (division.shards, *division.part.shape)
    parts = tvm.runtime.empty(shape, division.whole.dtype, tvm.cpu())
    library[division.function](given, parts)
    for shard, part in enumerate(parts.numpy()):
        pieces = [whole[index] for index in division.pieces(shard)]
        assert np.array_equal(part, np.concatenate(pieces, axis=division.axis))


def test_layers_share_functions() -> None:
    again = Division(Parameter("e", (4, 6), "uint32"), "_shard_columns", 1, (6,), 2)
    assert set(shard_functions([*DIVISIONS, again])) == {d.function for d in DIVISIONS}
