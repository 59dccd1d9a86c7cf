"""Linking a model's objects with the runtime for the web into one WebAssembly module."""

from collections.abc import Sequence
from pathlib import Path

from olmo.errors import OlmoError
from olmo.toolchains.zig import zig
from olmo.wasm import module
from olmo.wasm.runtime import ARCHIVE, OBJECT

# What the module may ask its host for: TVM's glue in JavaScript has these, and no others are sure
# to be there.
IMPORTS = frozenset(
    {
        "env.TVMFFIWasmFunctionDeleter",
        "env.TVMFFIWasmSafeCall",
        "env.emscripten_notify_memory_growth",
        "wasi_snapshot_preview1.clock_time_get",
        "wasi_snapshot_preview1.fd_write",
        "wasi_snapshot_preview1.proc_exit",
    }
)
# What TVM's glue calls (tvm/web/src: ctypes.ts and runtime.ts).
_EXPORTS = (
    *("TVMFFIAnyViewToOwnedAny", "TVMFFIDataTypeToString", "TVMFFIErrorMoveFromRaised"),
    *("TVMFFIErrorSetRaisedFromCStr", "TVMFFIFunctionCall", "TVMFFIFunctionCreate"),
    *("TVMFFIFunctionGetGlobal", "TVMFFIFunctionSetGlobal", "TVMFFIGetTypeInfo"),
    *("TVMFFIGetVersion", "TVMFFIObjectDecRef", "TVMFFIObjectIncRef", "TVMFFITypeKeyToIndex"),
    *("TVMFFIWasmFunctionCreate", "TVMFFIWasmGetLastError"),
    *("TVMWasmAllocSpace", "TVMWasmFreeSpace", "_initialize", "free", "malloc"),
)
_STACK = 5 << 20  # bytes; below the data, so that running out of it ends the program


def link(objects: Sequence[Path], runtime: Path, output: Path, work: Path) -> None:
    """Link `objects` and the runtime in the directory `runtime` into the module `output`.

    `work` is a scratch directory.

    Raises:
        OlmoError: the linker fails, or the objects need what no host offers (named).
    """
    arguments: list[str | Path] = [
        *("--no-entry", "--strip-all", "--build-id=none", "--stack-first", "--export-table"),
        *("--allow-undefined", "-z", f"stack-size={_STACK}"),
        *(f"--export={name}" for name in _EXPORTS),
        "-o",
        output,
        runtime / OBJECT,
        *objects,
        runtime / ARCHIVE,
    ]
    zig("wasm-ld", arguments, work)
    strange = sorted(module.imports(output.read_bytes()) - IMPORTS)
    if strange:
        raise OlmoError(
            f"the library needs {', '.join(strange)}, which no browser has",
            "this is a fault of the compiler: please report it with the model's config.json",
        )
