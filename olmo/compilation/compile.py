"""From a lowered module to a library: schedule, plan memory, generate code, link.

The module and metadata come from `olmo.modeling.lower`; nothing here knows the model.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import tvm

from olmo.compilation import pipeline
from olmo.compilation.code_generation import generate
from olmo.compilation.schedule import scheduled
from olmo.errors import DISK_HINT, OlmoError, unknown
from olmo.optimization import optimization
from olmo.target import Target
from olmo.toolchains import cuda
from olmo.toolchains.archive import archive
from olmo.toolchains.link import link
from olmo.wasm.link import link as link_wasm


def compile_library(
    module: bytes,
    metadata: bytes,
    target: Target,
    output: Path,
    prefix: str | None = None,
    runtime: Path | None = None,
    *,
    work: Path,
) -> None:
    """Build the library `output` of a lowered `module` for `target`.

    `metadata` is the JSON that `_metadata()` of the library returns with `memory_usage` added;
    `prefix` that of the symbols of a static library; `runtime` the directory of the runtime that a
    library for WebAssembly is linked with (`olmo.wasm.runtime`); `work` is an existing scratch
    directory. The library's bytes depend on `module`, `metadata`, `target`, `prefix` and `runtime`
    alone; `output` appears whole or not at all.

    Raises:
        OlmoError: unknown optimisation level, CPU or feature, or a compiler or the linker is missing or fails.
    """
    _check_cpu(target)
    device = cuda.compiling(target.archs, work) if target.kind == "cuda" else nullcontext()
    with device:
        executable = _executable(module, json.loads(metadata), target, prefix)
    objects = _objects(executable, work)
    if target.kind == "cuda":
        cuda.check(objects)
    built = work / f"library{target.suffix}"
    if target.suffix == ".tar":
        archive(objects, built)
    elif target.suffix == ".wasm":
        if runtime is None:
            raise OlmoError(f"a library {output.name} is linked with a runtime, which is not given")
        link_wasm(objects, runtime, built, work)
    else:
        link(objects, built, target.triple, work)
    _publish(built, output)


def _executable(
    module: bytes, metadata: Mapping[str, Any], target: Target, prefix: str | None
) -> Any:
    chosen = optimization(target.opt, target.kind)
    compiled_for = _tvm_target(target)
    with compiled_for, tvm.transform.PassContext(opt_level=chosen.level):
        kernels = scheduled(module, target.tvm, chosen.level)
        if prefix is not None:
            kernels = kernels.with_attr("system_lib_prefix", prefix)
        record = target.kind == "cuda" and chosen.cudagraph
        ready = pipeline.run(kernels, metadata, compiled_for, cuda_graph=record)
        return generate(ready, compiled_for, system_lib=target.system_lib)


def _check_cpu(target: Target) -> None:
    """Refuse a CPU or a feature that LLVM does not know: it would go on without it."""
    given = dict(target.host or target.tvm)
    options = {name: value for name, value in given.items() if name not in ("mcpu", "mattr")}
    cpu = given.get("mcpu")
    if cpu is not None and cpu not in (names := _cpus(options)):
        raise unknown(f"mcpu of {target.triple}", cpu, names)
    for feature in given.get("mattr", ()):
        name = feature[1:]
        if name not in _features({**options, "mattr": [f"+{name}"]}):
            every = (_features({**options, "mcpu": cpu}) for cpu in _cpus(options))
            raise unknown(f"feature of {target.triple} in mattr", name, sorted(set().union(*every)))


def _cpus(options: Mapping[str, Any]) -> list[str]:
    """Return the CPUs that LLVM knows of a target's kind and triple."""
    return sorted(map(str, tvm.target.codegen.llvm_get_cpu_archlist(tvm.target.Target(options))))


def _features(options: Mapping[str, Any]) -> set[str]:
    """Return the features that a target has, by LLVM."""
    return set(map(str, tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target(options))))


def _tvm_target(target: Target) -> tvm.target.Target:
    host = {} if target.host is None else {"host": dict(target.host)}
    return tvm.target.Target({**target.tvm, **host})


def _objects(executable: Any, work: Path) -> list[Path]:
    """Generate the object files of the executable in `work`."""
    found: list[Path] = []

    def collect(_output: str, files: list[str], **_options: Any) -> None:
        found.extend(map(Path, files))

    collect.object_format = "o"  # type: ignore[attr-defined] # how export_library chooses it
    directory = work / "objects"
    directory.mkdir(exist_ok=True)
    executable.export_library(
        str(work / "library.o"), fcompile=collect, workspace_dir=str(directory)
    )
    return found


def _publish(built: Path, output: Path) -> None:
    """Move the finished library to `output`, replacing what is there in one step."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(built, temporary)
        temporary.replace(output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OlmoError(
            f"{output}: cannot write the library: {error.strerror}", DISK_HINT
        ) from error
