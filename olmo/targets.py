"""The platforms a library can be built for, as data.

`Target.kind` is all that lowering sees; the rest (triple, CPU, toolchain) belongs to compiling, so
libraries of one kind share one lowered module. Imports neither numpy nor tvm.
"""

import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from olmo.errors import OlmoError, unknown
from olmo.optimization import optimization
from olmo.target import Target

_X86_64_V3 = "x86-64-v3"
_LINUX = {"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu", "mcpu": _X86_64_V3}
_WINDOWS = {"kind": "llvm", "mtriple": "x86_64-pc-windows-msvc", "mcpu": _X86_64_V3}
_WASM = {
    "kind": "llvm",
    "mtriple": "wasm32-unknown-unknown-wasm",
    "mattr": ["+simd128"],
    "vector-width": 128,
}
# Launch limits that every Apple GPU has; Metal's compiler chooses the width of its SIMD groups.
_METAL = {
    "kind": "metal",
    "max_threads_per_block": 256,
    "max_shared_memory_per_block": 32768,
    "thread_warp_size": 1,
}

_BUILT_IN = (
    Target("linux-x86_64-cpu", "llvm", _LINUX, None, ".so"),
    Target(
        "linux-aarch64-cpu",
        "llvm",
        {"kind": "llvm", "mtriple": "aarch64-unknown-linux-gnu", "mattr": ["+neon"]},
        None,
        ".so",
    ),
    Target(
        "linux-x86_64-cuda",
        "cuda",
        {"kind": "cuda", "arch": "sm_80", "max_shared_memory_per_block": 49152},
        _LINUX,
        ".so",
        archs=("sm_80", "sm_90"),
    ),
    Target(
        "macos-arm64-metal",
        "metal",
        _METAL,
        {"kind": "llvm", "mtriple": "arm64-apple-macosx13.0.0"},
        ".dylib",
    ),
    Target(
        "ios-arm64-metal",
        "metal",
        {**_METAL, "libs": ["iphoneos"]},
        {"kind": "llvm", "mtriple": "arm64-apple-ios14.0"},
        ".tar",
    ),
    Target(
        "android-arm64-opencl",
        "adreno",
        {"kind": "opencl", "device": "adreno", "max_threads_per_block": 512},
        {"kind": "llvm", "mtriple": "aarch64-linux-android24"},
        ".tar",
    ),
    Target("windows-x86_64-cpu", "llvm", _WINDOWS, None, ".dll"),
    Target("windows-x86_64-opencl", "opencl", {"kind": "opencl"}, _WINDOWS, ".dll"),
    Target("webgpu", "webgpu", {"kind": "webgpu"}, _WASM, ".wasm"),
    Target("wasm-cpu", "llvm", _WASM, None, ".wasm"),
)

TARGETS: Mapping[str, Target] = {t.name: t for t in _BUILT_IN}

# What MLC's users type for --device, by the target that it is.
ALIASES: Mapping[str, str] = {
    "cpu": "linux-x86_64-cpu",
    "cuda": "linux-x86_64-cuda",
    "metal": "macos-arm64-metal",
    "iphone": "ios-arm64-metal",
    "android": "android-arm64-opencl",
    "android:adreno": "android-arm64-opencl",
    "opencl": "windows-x86_64-opencl",
}

# What MLC's users may ask for as well, and why there is none.
UNSUPPORTED: Mapping[str, str] = {
    "vulkan": "the TVM wheel has no code generator for Vulkan",
    "rocm": "the TVM wheel has neither a ROCm runtime nor the device libraries to link with",
}

# What the names of libraries may end in, the usual form first, by a part of LLVM's triple.
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "linux-gnu": (".so", ".tar"),
    "apple-macosx": (".dylib", ".tar"),
    "apple-ios": (".tar",),
    "linux-android": (".tar",),
    "windows": (".dll", ".tar"),
    "wasm": (".wasm",),
}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FEATURE = re.compile(r"[+-][A-Za-z0-9][A-Za-z0-9._-]*")
_CUDA_ARCH = re.compile(r"sm_[1-9][0-9]{1,2}[af]?")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_features(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and _FEATURE.fullmatch(item) for item in value
    )


def _is_archs(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and len(set(map(str, value))) == len(value)
        and all(isinstance(item, str) and _CUDA_ARCH.fullmatch(item) for item in value)
    )


def _is_threads(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 32 <= value <= 1024


_Option = tuple[Callable[[object], bool], str]
_THREADS: _Option = (_is_threads, "a number of threads from 32 to 1024")

# What a target of one's own may change, by kind: (option, check, what it must be).
_OPTIONS: Mapping[str, Mapping[str, _Option]] = {
    "llvm": {
        "mcpu": (_is_word, "a CPU name as LLVM knows it, such as 'x86-64-v4'"),
        "mattr": (_is_features, "a list of features such as ['+avx512f', '-fma']"),
    },
    "cuda": {"archs": (_is_archs, "a list of CUDA architectures such as ['sm_80', 'sm_90']")},
    "metal": {"max_threads_per_block": _THREADS},
    "opencl": {"max_threads_per_block": _THREADS},
    "adreno": {"max_threads_per_block": _THREADS},
    "webgpu": {},
}


def target(name: str) -> Target:
    """Return the built-in target of this name, or of a name that MLC has for it.

    Raises:
        OlmoError: no such target (with a suggestion), or one that cannot be built (with the reason).
    """
    if name in UNSUPPORTED:
        raise OlmoError(f"target {name!r} cannot be built: {UNSUPPORTED[name]}")
    resolved = ALIASES.get(name, name)
    if resolved not in TARGETS:
        raise unknown("target", name, (*TARGETS, *ALIASES))
    return TARGETS[resolved]


def runs_here(target: Target) -> bool:
    """Whether this machine can load and run libraries of `target` itself."""
    here = f"{platform.machine()}-unknown-{sys.platform}"
    return target.kind == "llvm" and not target.system_lib and target.triple.startswith(here)


def only_one_device(target: Target) -> str | None:
    """Return why a library of `target` runs on one device alone; None if it may run on several."""
    if target.kind not in {"llvm", "cuda"}:
        return f"MLC's runtime for {target.kind} uses one device"
    return "a library that is linked into an app uses one device" if target.system_lib else None


def suffixes(target: Target) -> tuple[str, ...]:
    """Return what the names of a platform's libraries may end in, the usual one first."""
    return next(found for part, found in _SUFFIXES.items() if part in target.triple)


def custom(name: str, base: str, options: Mapping[str, Any]) -> Target:
    """Return a target of the user's own: a built-in one with some of its options replaced.

    Raises:
        OlmoError: unknown base or option (with a suggestion), an option of the wrong form, or a
            name that is taken by a built-in target.
    """
    if name in TARGETS or name in ALIASES:
        raise OlmoError(f"target {name!r} is built in", "choose another name for your own target")
    chosen = target(base)
    made = replace(chosen, name=name)
    allowed = _OPTIONS[chosen.kind]
    for option, value in options.items():
        if option in _ANY_KIND:
            made = _ANY_KIND[option](made, value)
            continue
        if option not in allowed:
            raise unknown(f"option of target {name!r}", option, (*allowed, *_ANY_KIND))
        is_valid, form = allowed[option]
        if not is_valid(value):
            raise OlmoError(f"target {name!r}: {option} must be {form}, not {value!r}")
        if option == "archs":
            archs = tuple(sorted(value, key=_capability))
            made = replace(made, archs=archs, tvm={**made.tvm, "arch": archs[0]})
        else:
            made = replace(made, tvm={**made.tvm, option: value})
    return made


def with_suffix(target: Target, suffix: object) -> Target:
    """Return `target` building the form of library that ends in `suffix`.

    Raises:
        OlmoError: its platform has no libraries of this form.
    """
    allowed = suffixes(target)
    if suffix not in allowed:
        raise OlmoError(
            f"a library for {target.name} does not end in {suffix!r}", f"use {' or '.join(allowed)}"
        )
    return replace(target, suffix=str(suffix))


def with_opt(target: Target, opt: object) -> Target:
    """Return `target` optimised as `opt` says (`olmo.optimization`).

    Raises:
        OlmoError: no such level or flag.
    """
    if not isinstance(opt, str):
        raise OlmoError(f"target {target.name!r}: opt must be text such as 'O2', not {opt!r}")
    optimization(opt, target.kind)
    return replace(target, opt=opt)


_ANY_KIND: Mapping[str, Callable[[Target, object], Target]] = {
    "suffix": with_suffix,
    "opt": with_opt,
}


def _capability(arch: str) -> int:
    return int("".join(filter(str.isdigit, arch)))
