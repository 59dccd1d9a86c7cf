import shutil
from pathlib import Path

import pytest
import tvm
from tvm.script import tirx as T  # noqa: N812  (TVM's own name for it)

from olmo.errors import OlmoError
from olmo.toolchains import cuda

needs_nvcc = pytest.mark.skipif(
    not (shutil.which("nvcc") and shutil.which("g++")), reason="nvcc or g++ is not installed"
)


@T.prim_func(s_tir=True)
def double(a: T.Buffer((64,), "float32")):  # noqa: ANN201  (TVMScript, not Python)
    T.func_attr({"global_symbol": "double"})
    for i in T.thread_binding(64, thread="threadIdx.x"):
        with T.sblock("double"):
            j = T.axis.spatial(64, i)
            a[j] = a[j] * T.float32(2)


def objects(archs: list[str], work: Path) -> list[Path]:
    """Compile a kernel for CUDA; return the object files of its module."""
    work.mkdir()
    target = tvm.target.Target({"kind": "cuda", "arch": archs[0], "host": {"kind": "llvm"}})
    with cuda.compiling(archs, work):
        built = tvm.tirx.build(tvm.IRModule({"double": double}), target=target)
    found: list[Path] = []

    def collect(_output: str, files: list[str], **_options: object) -> None:
        found.extend(map(Path, files))

    collect.object_format = "o"  # type: ignore[attr-defined]  # how TVM chooses it
    built.export_library(str(work / "o.o"), fcompile=collect, workspace_dir=str(work))
    return found


@needs_nvcc
def test_code_for_each_architecture_and_no_source(tmp_path: Path) -> None:
    made = objects(["sm_80", "sm_90"], tmp_path / "a")
    cuda.check(made)
    data = b"".join(path.read_bytes() for path in made)
    assert b"sm_80" in data
    assert b"sm_90" in data
    cuda._fatbin.cache_clear()
    again = objects(["sm_80", "sm_90"], tmp_path / "elsewhere")
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in again]


@needs_nvcc
def test_nvccs_message_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match=r"nvcc [\d.]+ failed: .*compute_11"):
        objects(["sm_11"], tmp_path / "a")


def test_source_in_place_of_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib0.o").write_bytes(b'extern "C" __global__ void double_kernel()')
    with pytest.raises(OlmoError, match="CUDA source instead of compiled kernels"):
        cuda.check([tmp_path / "lib0.o"])
