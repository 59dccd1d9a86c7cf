"""`[[release]]` of a matrix: rows as products of models, quantizations, windows and targets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from olmo.quantizations import QUANTIZATIONS
from olmo.targets import ALIASES, UNSUPPORTED
from tasks.configuration.mistakes import Key, Mistakes


@dataclass(frozen=True, order=True)
class Devices:
    """The devices that a model is divided over: `shards` in each of `stages`.

    `presharded` weights are divided when they are converted, others when they are loaded.
    """

    shards: int = 1
    stages: int = 1
    presharded: bool = False

    @property
    def count(self) -> int:
        """How many there are."""
        return self.shards * self.stages

    @property
    def of_library(self) -> str:
        """What names of libraries for several devices have behind the window."""
        shards = f"-tp{self.shards}" if self.shards > 1 else ""
        return shards + (f"-pp{self.stages}" if self.stages > 1 else "")

    @property
    def of_weights(self) -> str:
        """What names of divided weights have behind the quantization."""
        return f"-tp{self.shards}" if self.presharded else ""

    def __str__(self) -> str:
        return self.of_library + ("-presharded" if self.presharded else "")


@dataclass(frozen=True, order=True)
class Row:
    """One thing to release."""

    model: str
    quantization: str
    window: int
    target: str
    devices: Devices = Devices()

    @property
    def variant(self) -> str:
        """The window, and the devices where there are several."""
        return f"{self.window}{self.devices}"

    def __str__(self) -> str:
        return f"{self.model}:{self.quantization}:{self.variant}:{self.target}"


_SMALLEST_WINDOW = 8  # a smaller one could not be verified
_ROW_KEYS = ("models", "quantizations", "windows", "targets")

KEYS: Mapping[str, Key] = {
    "models": Key("list of names", "models of `[models]`"),
    "quantizations": Key("list of names", "[quantizations](quantization.md)"),
    "windows": Key("list of integers", "context windows, in tokens; 8 at least"),
    "targets": Key("list of names", "[targets](targets.md), built in or of `[targets]`"),
    "exclude": Key("list of tables", "rows to leave out, see below", "none"),
    "tensor_parallel_shards": Key(
        "positive integer", "over how many devices every layer is divided", "1"
    ),
    "pipeline_parallel_stages": Key(
        "positive integer", "over how many groups of devices the layers are distributed", "1"
    ),
    "presharded": Key(
        "true or false",
        "divide the weights when they are converted, not when they are loaded",
        "false",
    ),
}

EXCLUDE_KEYS: Mapping[str, Key] = {
    "model": Key("name", "rows of this model", "any"),
    "quantization": Key("name", "rows of this quantization", "any"),
    "window": Key("positive integer", "rows of this window", "any"),
    "target": Key("name", "rows of this target", "any"),
}


def read_rows(
    value: Any, models: Iterable[str], targets: Iterable[str], mistakes: Mistakes
) -> tuple[Row, ...]:
    """Read the `[[release]]` tables of a matrix; note what is wrong with them."""
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        mistakes.add("release", "expected [[release]] tables")
        return ()
    if not value:
        mistakes.add("release", "there is nothing to build", "add a [[release]] table")
        return ()
    checks: Mapping[str, Callable[[str, Any], bool]] = {
        "models": lambda where, name: _known(where, "model", name, models, mistakes),
        "quantizations": lambda where, name: _quantization(where, name, mistakes),
        "windows": lambda where, window: _window(where, window, mistakes),
        "targets": lambda where, name: _target(where, name, targets, mistakes),
    }
    found: dict[Row, str] = {}
    for number, table in enumerate(value):
        where = f"release[{number}]"
        mistakes.keys(where, table, KEYS)
        axes = [_axis(where, table, key, checks[key], mistakes) for key in _ROW_KEYS]
        devices = _devices(where, table, axes[1], mistakes)
        excluded = _exclusions(where, table.get("exclude", []), axes, mistakes)
        product = [
            Row(values[0], values[1], values[2], values[3], devices)
            for values in itertools.product(*axes)
            if not any(_matches(values, rule) for rule in excluded)
        ]
        if not product and all(axes):
            mistakes.add(f"{where}.exclude", "excludes every row", "the product is empty")
        for row in product:
            if row in found:
                mistakes.add(where, f"{row} is listed again", f"first in {found[row]}")
            found.setdefault(row, where)
    return tuple(found)


def _axis(
    where: str,
    table: Mapping[str, Any],
    key: str,
    check: Callable[[str, Any], bool],
    mistakes: Mistakes,
) -> list[Any]:
    values = table.get(key)
    if values is None:
        mistakes.add(where, f"{key} is missing", f"{key} = [...] says which")
        return []
    if not isinstance(values, list):
        mistakes.add(f"{where}.{key}", f"expected a list, found {values!r}", f"write [{values!r}]")
        return []
    if not values:
        mistakes.add(f"{where}.{key}", "is empty: the product would be empty")
    good = []
    for index, value in enumerate(values):
        if value in values[:index]:
            mistakes.add(f"{where}.{key}[{index}]", f"{value!r} is listed twice")
        elif check(f"{where}.{key}[{index}]", value):
            good.append(ALIASES.get(value, value) if key == "targets" else value)
    return good


def _devices(
    where: str, table: Mapping[str, Any], quantizations: Iterable[str], mistakes: Mistakes
) -> Devices:
    counts = []
    for key in ("tensor_parallel_shards", "pipeline_parallel_stages"):
        count = table.get(key, 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            mistakes.add(f"{where}.{key}", f"expected a number of devices, found {count!r}")
            count = 1
        counts.append(count)
    shards, stages = counts
    presharded = table.get("presharded", False)
    if not isinstance(presharded, bool):
        mistakes.add(f"{where}.presharded", f"expected true or false, found {presharded!r}")
    elif presharded and shards == 1:
        hint = "set tensor_parallel_shards too"
        mistakes.add(f"{where}.presharded", "there is one shard: weights are not divided", hint)
    for name in quantizations if shards > 1 else ():
        from olmo.parallel import undividable  # noqa: PLC0415  (loads what a model is: rarely asked)

        reason = undividable(QUANTIZATIONS[name])
        if reason is not None:
            mistakes.add(f"{where}.tensor_parallel_shards", f"{name}: {reason}")
    return Devices(shards, stages, presharded is True)


def _known(where: str, what: str, name: Any, known: Iterable[str], mistakes: Mistakes) -> bool:
    if isinstance(name, str) and name in known:
        return True
    names = list(known)
    if names:
        mistakes.unknown(where, what, str(name), names)
    else:
        mistakes.add(where, f"unknown {what} {str(name)!r}", f"add a table [{what}s.{name}]")
    return False


def _quantization(where: str, name: Any, mistakes: Mistakes) -> bool:
    if not _known(where, "quantization", name, QUANTIZATIONS, mistakes):
        return False
    reason = QUANTIZATIONS[name].unsupported
    if reason:
        mistakes.add(
            where, f"{name} cannot be built: {reason}", "docs/quantization.md has all others"
        )
    return reason is None


def _target(where: str, name: Any, known: Iterable[str], mistakes: Mistakes) -> bool:
    if name in UNSUPPORTED:
        mistakes.add(
            where, f"{name} cannot be built: {UNSUPPORTED[name]}", "docs/targets.md has all others"
        )
        return False
    return name in ALIASES or _known(where, "target", name, known, mistakes)


def _window(where: str, window: Any, mistakes: Mistakes) -> bool:
    if isinstance(window, bool) or not isinstance(window, int) or window < _SMALLEST_WINDOW:
        mistakes.add(
            where,
            f"a window is a number of tokens from {_SMALLEST_WINDOW} on, not {window!r}",
            "such as 2048, without quotes",
        )
        return False
    return True


_EXCLUDED_AXES = {"model": 0, "quantization": 1, "window": 2, "target": 3}


def _exclusions(
    where: str, value: Any, axes: list[list[Any]], mistakes: Mistakes
) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        mistakes.add(f"{where}.exclude", "expected a list of tables such as { window = 256 }")
        return []
    good: list[Mapping[str, Any]] = []
    for number, rule in enumerate(value):
        place = f"{where}.exclude[{number}]"
        mistakes.keys(place, rule, EXCLUDE_KEYS)
        known = {key: item for key, item in rule.items() if key in _EXCLUDED_AXES}
        if not rule:
            mistakes.add(place, "is empty: it would exclude every row")
            continue
        misses = [key for key, item in known.items() if item not in axes[_EXCLUDED_AXES[key]]]
        for key in misses:
            mistakes.add(
                f"{place}.{key}", f"{known[key]!r} is not in {_ROW_KEYS[_EXCLUDED_AXES[key]]}"
            )
        if known and not misses and len(known) == len(rule):
            good.append(known)
    return good


def _matches(values: tuple[Any, ...], rule: Mapping[str, Any]) -> bool:
    return all(values[_EXCLUDED_AXES[key]] == item for key, item in rule.items())
