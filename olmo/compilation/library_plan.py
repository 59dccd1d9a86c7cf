"""What the `compile` command is asked to build, checked before anything slow begins."""

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from olmo.configuration.compile_spec import CompileSpec
from olmo.errors import OlmoError, unknown
from olmo.json_file import read_json
from olmo.quantization import Quantization
from olmo.quantizations import quantization
from olmo.target import MIN_PREFIX, Target, symbol_prefix
from olmo.targets import TARGETS, only_one_device, target, with_opt, with_suffix
from olmo.toolchains.toolchain import tools

# Also in olmo.configuration.chat_config, which this module, light as it is, does not import.
CHAT_CONFIG = "mlc-chat-config.json"

# What --overrides may change, by where it belongs.
_CONFIG_OVERRIDES = (
    "context_window_size",
    "prefill_chunk_size",
    "max_batch_size",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
)
_SPEC_OVERRIDES = ("sliding_window_size", "attention_sink_size")
OVERRIDES = (*_CONFIG_OVERRIDES, *_SPEC_OVERRIDES)


@dataclass(frozen=True, slots=True)
class LibraryPlan:
    """A library to build: of what, for what, how, and where to."""

    spec: CompileSpec
    target: Target
    prefix: str | None  # of the symbols of a static library
    output: Path


def plan_library(
    model: Path,
    output: Path,
    *,
    quantization_name: str | None = None,
    device: str = "auto",
    host: str = "auto",
    opt: str = "O2",
    system_lib_prefix: str = "auto",
    overrides: str = "",
) -> LibraryPlan:
    """Check a request to compile.

    `model` is a mlc-chat-config.json or the directory it is in; `device` the name of a target, or
    "auto" for this machine's CPU; `overrides` has the form "name=value;name=value".

    Raises:
        OlmoError: anything that is unknown, contradictory or not what the target builds, or a
            program that compiling for it needs and is not installed.
    """
    path = model / CHAT_CONFIG if model.is_dir() else model
    if not path.exists():
        raise OlmoError(f"{path}: no such file", "write it with: python -m olmo gen_config")
    chosen = with_opt(_native() if device == "auto" else target(device), opt)
    _check_host(host, chosen)
    chosen = with_suffix(chosen, output.suffix)
    if output.is_dir():
        raise OlmoError(f"{output}: is a directory")
    chat_config = read_json(path)
    chosen_quantization = _quantization(quantization_name, chat_config, path)
    tools(chosen.kind)
    spec = CompileSpec.from_chat_config(chat_config, chosen_quantization, str(path))
    spec = _overridden(spec, parse_overrides(overrides))
    alone = only_one_device(chosen)
    if spec.config.devices > 1 and alone is not None:
        raise OlmoError(
            f"{chosen.name}: {alone}, but the model is divided over {spec.config.devices}",
            "set tensor_parallel_shards and pipeline_parallel_stages to 1",
        )
    return LibraryPlan(spec, chosen, _prefix(system_lib_prefix, chosen, spec), output)


def _quantization(name: str | None, chat_config: object, path: Path) -> Quantization:
    """Return the quantization of this name, or else the one that the chat config names."""
    if name is not None:
        return quantization(name)
    if not isinstance(chat_config, Mapping) or "quantization" not in chat_config:
        raise OlmoError(f"{path}: the field 'quantization' is missing")
    try:
        return quantization(str(chat_config["quantization"]))
    except OlmoError as error:
        raise OlmoError(f"{path}: {error}", error.hint) from None


def parse_overrides(text: str) -> dict[str, int]:
    """Parse "name=value;name=value".

    Raises:
        OlmoError: not of that form, an unknown or repeated name, or a value that is no integer.
    """
    found: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise OlmoError(f"--overrides: {item!r} is not of the form name=value")
        if name not in OVERRIDES:
            raise unknown("name in --overrides", name, OVERRIDES)
        if name in found:
            raise OlmoError(f"--overrides: {name} is given twice")
        try:
            found[name] = int(value)
        except ValueError:
            raise OlmoError(f"--overrides: {name} must be an integer, not {value!r}") from None
    return found


def _overridden(spec: CompileSpec, overrides: Mapping[str, int]) -> CompileSpec:
    of_config: dict[str, Any] = {k: v for k, v in overrides.items() if k in _CONFIG_OVERRIDES}
    of_spec: dict[str, Any] = {k: v for k, v in overrides.items() if k in _SPEC_OVERRIDES}
    return replace(spec, config=spec.config.with_overrides(**of_config), **of_spec)


def _native() -> Target:
    name = f"{sys.platform}-{platform.machine()}-cpu"
    if name not in TARGETS:
        raise OlmoError(
            f"no built-in target is {name}", f"choose one with --device: {', '.join(TARGETS)}"
        )
    return TARGETS[name]


def _check_host(host: str, chosen: Target) -> None:
    if host not in {"auto", chosen.triple}:
        raise OlmoError(
            f"--host {host!r}: the host of {chosen.name} is {chosen.triple}", "leave --host out"
        )


def _prefix(given: str, chosen: Target, spec: CompileSpec) -> str | None:
    """Return the prefix of the library's symbols, None for a library that has none."""
    if chosen.suffix == ".tar":
        own = symbol_prefix(spec.model_type, spec.quantization.name)
        if given == "auto":
            return own
        if len(given) < MIN_PREFIX or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", given) is None:
            raise OlmoError(
                f"--system-lib-prefix {given!r}: at least {MIN_PREFIX} letters, digits and '_'",
                f"leave it out for {own!r}",
            )
        return given
    if given != "auto":
        raise OlmoError(
            f"--system-lib-prefix: {chosen.suffix} is a shared library, which has no prefix",
            "leave --system-lib-prefix out",
        )
    return None
