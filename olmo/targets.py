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
from olmo.target import Target

_BUILT_IN = (
    Target(
        name="linux-x86_64-cpu",
        kind="llvm",
        tvm={"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu", "mcpu": "x86-64-v3"},
        host=None,
        suffix=".so",
        zig_target="x86_64-linux-gnu.2.28",
    ),
)

TARGETS: Mapping[str, Target] = {t.name: t for t in _BUILT_IN}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FEATURE = re.compile(r"[+-][A-Za-z0-9][A-Za-z0-9._-]*")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_features(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and _FEATURE.fullmatch(item) for item in value
    )


# What a target of one's own may change, by kind: (option, check, what it must be).
_OVERRIDES: Mapping[str, Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "llvm": {
        "mcpu": (_is_word, "a CPU name as LLVM knows it, such as 'x86-64-v4'"),
        "mattr": (_is_features, "a list of features such as ['+avx512f', '-fma']"),
    },
}


def target(name: str) -> Target:
    """Return the built-in target of this name.

    Raises:
        OlmoError: no such target (with a suggestion).
    """
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    return TARGETS[name]


def runs_here(target: Target) -> bool:
    """Whether this machine can load and run libraries of `target` itself."""
    triple = str(target.tvm.get("mtriple", ""))
    here = f"{platform.machine()}-unknown-{sys.platform}"
    return target.kind == "llvm" and triple.startswith(here)


def custom(name: str, base: str, overrides: Mapping[str, Any]) -> Target:
    """Return a target of the user's own: a built-in one with some of its options replaced.

    Raises:
        OlmoError: unknown base or option (with a suggestion), an option of the wrong form, or a
            name that is taken by a built-in target.
    """
    if name in TARGETS:
        raise OlmoError(f"target {name!r} is built in", "choose another name for your own target")
    chosen = target(base)
    allowed = _OVERRIDES[chosen.kind]
    for option, value in overrides.items():
        if option not in allowed:
            raise unknown(f"option of target {name!r}", option, allowed)
        is_valid, form = allowed[option]
        if not is_valid(value):
            raise OlmoError(f"target {name!r}: {option} must be {form}, not {value!r}")
    return replace(chosen, name=name, tvm={**chosen.tvm, **overrides})
