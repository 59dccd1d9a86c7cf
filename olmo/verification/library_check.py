"""Looking at a library without its device: is it what its target asks for, whole and alone?

Every check raises an OlmoError that says what is wrong; what is right is told in words.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo.errors import OlmoError
from olmo.generation.library_parameters import LibraryParameters
from olmo.json_file import read_json
from olmo.target import Target
from olmo.verification.fatbin import read_fatbin
from olmo.verification.library_file import DeviceModule, LibraryFile, read_library
from olmo.verification.object_file import ObjectFile
from olmo.verification.opencl_check import compile_kernels, kernels
from olmo.wasm.module import imports

CHAT_CONFIG = "mlc-chat-config.json"

# What every library's virtual machine must have.
FUNCTIONS = (
    *("_metadata", "embed", "prefill", "decode", "batch_prefill", "batch_decode"),
    *("create_tir_paged_kv_cache", "softmax_with_temperature", "alloc_embedding_tensor"),
)

# Format of objects and of shared libraries, by a part of LLVM's triple, and the libraries that a
# shared one may load.
_PLATFORMS: Mapping[str, tuple[str, str, frozenset[str]]] = {
    "linux": ("ELF", "ELF", frozenset({"libm.so.6", "libc.so.6"})),
    "apple": ("Mach-O", "Mach-O", frozenset({"/usr/lib/libSystem.B.dylib"})),
    "windows": ("COFF", "PE", frozenset({"ucrtbase.dll", "ntdll.dll", "tvm_ffi.dll"})),
}
_ARCHITECTURES = {"arm64": "aarch64"}  # LLVM's second name

# Places of files on the machine that built something; system libraries are named otherwise.
_BUILD_PATH = re.compile(
    rb"/(?:home|root|tmp|opt|var|build|mnt|srv|Users|private)/[\w.+-]+/[\w.+/-]+|[A-Z]:\\\\?[\w.]+\\"
)


def check_library(
    path: Path, target: Target, prefix: str, model: Path, opencl: Path | None, work: Path
) -> tuple[str, list[str]]:
    """Check the library at `path`, built for `target` with symbols that begin with `prefix`.

    `model` is the directory of the model's weights and configuration; `opencl` that of OpenCL's
    headers, without which kernels of OpenCL are not compiled; `work` a scratch directory.
    Returns what the library is, in a few words, and every check in words.

    Raises:
        OlmoError: what is wrong with the library.
    """
    if path.suffix == ".wasm":
        return _check_wasm(path, model)
    library = read_library(path, prefix)
    told = [_check_objects(path, library.objects, target)]
    if target.system_lib:
        told.append(_check_prefix(path, library.objects, prefix))
    told.append(_check_paths(path))
    told.append(_check_functions(path, library.executable, model))
    summary = f"{library.objects[0].format} {library.objects[0].architecture}"
    if target.host is not None:
        words, checks = _check_device(path, library, target, opencl, work)
        summary = f"{summary}, {words}"
        told += checks
    return summary, told


def _check_wasm(path: Path, model: Path) -> tuple[str, list[str]]:
    data = path.read_bytes()
    needs = len(imports(data))
    told = [f"a WebAssembly module with {needs} imports", _check_paths(path)]
    return "WebAssembly", [*told, _check_functions(path, data, model)]


def _check_objects(path: Path, objects: Sequence[ObjectFile], target: Target) -> str:
    part = next(part for part in _PLATFORMS if part in target.triple)
    relocatable, loaded, allowed = _PLATFORMS[part]
    wanted = relocatable if target.system_lib else loaded
    arch = target.triple.partition("-")[0]
    architecture = _ARCHITECTURES.get(arch, arch)
    for found in objects:
        if (found.format, found.shared) != (wanted, not target.system_lib):
            form = "a shared library" if found.shared else "an object file"
            raise OlmoError(f"{path}: {found.name} is {form} in {found.format}, not {wanted}")
        if found.architecture != architecture:
            raise OlmoError(f"{path}: {found.name} is for {found.architecture}, not {architecture}")
        for name in found.needed:
            if name not in allowed:
                raise OlmoError(f"{path}: {found.name} loads {name}, which users may not have")
    if target.system_lib:
        return f"{len(objects)} object files in {wanted} for {architecture}"
    needed = ", ".join(objects[0].needed) or "nothing"
    return f"a shared library in {wanted} for {architecture} that loads {needed}"


def _check_prefix(path: Path, objects: Sequence[ObjectFile], prefix: str) -> str:
    names = [found.name for found in objects]
    if sorted(names) != sorted(["lib0.o", f"{prefix}devc.o"]):
        raise OlmoError(f"{path}: holds {', '.join(names)}, not lib0.o and {prefix}devc.o")
    for found in objects:
        for symbol in found.defined:
            rest = symbol.removeprefix("__tvm_ffi_")
            if rest != symbol and not rest.startswith(prefix):
                raise OlmoError(f"{path}: the symbol {symbol} of {found.name} lacks the prefix")
            if symbol.endswith(("__tvm_ffi__library_bin", "__tvm_ffi__library_ctx")) and (
                not symbol.startswith(prefix)
            ):
                raise OlmoError(f"{path}: the symbol {symbol} of {found.name} lacks the prefix")
    return f"members and symbols have the prefix {prefix}"


def _check_paths(path: Path) -> str:
    found = _BUILD_PATH.search(path.read_bytes())
    if found:
        raise OlmoError(f"{path}: holds a path of the machine that built it: {found[0].decode()}")
    return "no path of the machine that built it"


def _check_functions(path: Path, executable: bytes, model: Path) -> str:
    for name in FUNCTIONS:
        if len(name).to_bytes(8, "little") + name.encode() not in executable:
            raise OlmoError(f"{path}: has no function {name}")
    metadata = _metadata(path, executable)
    config = read_json(model / CHAT_CONFIG)
    for key in ("model_type", "quantization", "context_window_size"):
        if metadata.get(key) != config[key]:
            raise OlmoError(
                f"{path}: was compiled for {key} {metadata.get(key)}, its model has {config[key]}"
            )
    LibraryParameters(model, path, metadata)
    functions, parameters = len(metadata["memory_usage"]), len(metadata["params"])
    return f"{functions} functions of the virtual machine for the {parameters} weights of the model"


def _metadata(path: Path, executable: bytes) -> Mapping[str, Any]:
    """Return what `_metadata()` of the library returns: a constant of the virtual machine."""
    start = executable.find(b'{"model_type":')
    if start < 8:
        raise OlmoError(f"{path}: has no metadata")
    size = int.from_bytes(executable[start - 8 : start], "little")
    try:
        found = json.loads(executable[start : start + size])
    except ValueError as error:
        raise OlmoError(f"{path}: its metadata is not JSON: {error}") from None
    return dict(found)


def _check_device(
    path: Path, library: LibraryFile, target: Target, opencl: Path | None, work: Path
) -> tuple[str, list[str]]:
    device = target.tvm["kind"]
    kinds = [module.kind for module in library.devices]
    if kinds != [device]:
        raise OlmoError(f"{path}: device code for {', '.join(kinds) or 'none'}, not for {device}")
    (module,) = library.devices
    if not module.kernels:
        raise OlmoError(f"{path}: has no kernels for {device}")
    if device == "cuda":
        return _check_cuda(path, module, target)
    if device == "metal":
        return _check_metal(path, module)
    if device == "opencl":
        return _check_opencl(path, module, opencl, work)
    raise OlmoError(f"{path}: there are no checks for {device}")


def _check_cuda(path: Path, module: DeviceModule, target: Target) -> tuple[str, list[str]]:
    if b"__global__" in path.read_bytes():
        raise OlmoError(f"{path}: holds source of CUDA, which no GPU runs")
    entries = read_fatbin(module.code[""], str(path))
    native = sorted(entry.arch for entry in entries if entry.kind == "elf")
    portable = sorted(entry.arch for entry in entries if entry.kind == "ptx")
    if native != sorted(target.archs) or portable != [min(target.archs, key=_capability)]:
        raise OlmoError(
            f"{path}: machine code for {', '.join(native) or 'none'} and PTX for "
            f"{', '.join(portable) or 'none'}, not for {', '.join(target.archs)} and the lowest"
        )
    for entry in entries:
        if entry.payload.startswith(b"\x7fELF"):  # and is not compressed
            for kernel in module.kernels:
                if f".text.{kernel}\0".encode() not in entry.payload:
                    raise OlmoError(f"{path}: has no machine code of {kernel} for {entry.arch}")
    codes = f"{' '.join(native)} and PTX {' '.join(portable)}"
    return f"fatbin of {codes}", [
        f"{len(module.kernels)} kernels in a fat binary: {codes}",
        "no source of CUDA",
    ]


def _capability(arch: str) -> int:
    return int("".join(filter(str.isdigit, arch)))


def _check_metal(path: Path, module: DeviceModule) -> tuple[str, list[str]]:
    if set(module.code) != set(module.kernels):
        raise OlmoError(f"{path}: kernels of Metal and their code have different names")
    for name, code in module.code.items():
        if module.format == "metal" and f"kernel void {name}(".encode() not in code:
            raise OlmoError(f"{path}: the source of the Metal kernel {name} does not define it")
    form = "source" if module.format == "metal" else module.format
    words = f"{len(module.kernels)} Metal kernels as {form}"
    return words, [words]


def _check_opencl(
    path: Path, module: DeviceModule, headers: Path | None, work: Path
) -> tuple[str, list[str]]:
    programs = kernels(module.code[""].decode())
    if set(programs) != set(module.kernels):
        raise OlmoError(f"{path}: kernels of OpenCL and their source have different names")
    for name, program in programs.items():
        if not re.search(rf"__kernel void [^;{{]*\b{name}\([^;{{]*\{{", program):
            raise OlmoError(f"{path}: the source of the OpenCL kernel {name} does not define it")
    if headers is None:
        words = f"{len(programs)} OpenCL kernels as source"
        return words, [words]
    try:
        compile_kernels(programs, headers, work)
    except OlmoError as error:
        raise OlmoError(f"{path}: {error}", error.hint) from None
    return f"{len(programs)} OpenCL kernels compile", [
        f"each of {len(programs)} OpenCL kernels compiles, as OpenCL C 1.2 for SPIR"
    ]
