"""RoPE scaling tables: the kinds there are, the keys of each, and their one written form.

Names and meanings are transformers' (`rope_scaling`, or `rope_parameters` of version 5). Imports
neither numpy nor tvm.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olmo.errors import OlmoError, unknown


@dataclass(frozen=True)
class _Kind:
    """Keys that a kind needs, may have as positive numbers, and may have as true or false."""

    needed: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    ordered: tuple[tuple[str, str], ...] = ()  # of each two, the first is below the second


KINDS: Mapping[str, _Kind] = {
    "linear": _Kind(("factor",)),
    "llama3": _Kind(
        ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
        ordered=(("low_freq_factor", "high_freq_factor"),),
    ),
    "yarn": _Kind(
        ("factor", "original_max_position_embeddings"),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
        # `finetuned` only says how the weights were made
        ("finetuned", "truncate"),
        (("beta_slow", "beta_fast"),),
    ),
}
# The KV cache holds keys already rotated, so angles must not change as a text grows.
_LENGTHS = "its angles change with the length of the text"
_NOT_COMPUTED: Mapping[str, str] = {"dynamic": _LENGTHS, "longrope": _LENGTHS}
_OUTSIDE = ("rope_type", "type", "rope_theta")

BETA_FAST, BETA_SLOW = 32.0, 1.0  # YaRN's defaults for Llama, arXiv:2309.00071 section 3.2


def normalised_scaling(value: object, where: str) -> Mapping[str, Any] | None:
    """Return `rope_type`, then the kind's keys in alphabetical order; None for no scaling.

    Raises:
        OlmoError: no table, an unknown or unsupported kind, an unknown or missing key, a value out
            of range.
    """
    if not isinstance(value, Mapping):
        raise OlmoError(f"{where}: expected a table of fields, found {type(value).__name__}")
    name = value.get("rope_type", value.get("type"))
    if name is None or name == "default":
        return None
    if not isinstance(name, str):
        raise OlmoError(f"{where}: rope_type must be a name, not {name!r}")
    if name in _NOT_COMPUTED:
        raise OlmoError(
            f"{where}: {name!r} scaling cannot be computed: {_NOT_COMPUTED[name]}",
            f"supported: {', '.join(KINDS)}",
        )
    if name not in KINDS:
        error = unknown("kind", name, KINDS)
        raise OlmoError(f"{where}: {error}", error.hint)
    given = {k: v for k, v in value.items() if k not in _OUTSIDE and v is not None}
    _check(name, given, where)
    return {"rope_type": name} | {key: given[key] for key in sorted(given)}


def _check(name: str, given: Mapping[str, Any], where: str) -> None:
    kind = KINDS[name]
    allowed = (*kind.needed, *kind.numbers, *kind.flags)
    for key, item in given.items():
        if key not in allowed:
            error = unknown(f"key of {name!r} scaling", str(key), allowed)
            raise OlmoError(f"{where}: {error}", error.hint)
        if key in kind.flags:
            if not isinstance(item, bool):
                raise OlmoError(f"{where}: {key} must be true or false, not {item!r}")
        elif not is_positive(item):
            raise OlmoError(f"{where}: {key} must be a positive number, not {item!r}")
    for key in kind.needed:
        if key not in given:
            raise OlmoError(f"{where}: {name!r} scaling needs the field {key!r}")
    for low, high in kind.ordered:
        if given.get(low, BETA_SLOW) >= given.get(high, BETA_FAST):
            raise OlmoError(
                f"{where}: {low} {given.get(low, BETA_SLOW)!r} is not below "
                f"{high} {given.get(high, BETA_FAST)!r}"
            )


def is_positive(value: object) -> bool:
    """Whether a value is a number above 0 that a float can hold: no NaN, no infinity."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= sys.float_info.max  # type: ignore[operator] # a number
