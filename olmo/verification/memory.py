"""How much memory running a library takes, and how much there is. Imports neither numpy nor tvm."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.quantization import Quantization
from olmo.weights import parameters, weights

_HERE = 300 << 20  # TVM, numpy and the rest, in bytes
_DEQUANTIZED = 12  # bytes of an element: the reference has one matrix in float32 and float64
_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _GroupFiles:
    """Where a version of control groups says what it does: paths below `_GROUPS`, and names.

    `own` finds this process's group. What a group holds in the lines `reclaimable` is given back.
    """

    own: re.Pattern[str]
    place: str
    limit: str
    used: str
    reclaimable: tuple[str, ...]


# Source: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of Linux.
_VERSIONS = (
    _GroupFiles(
        re.compile(r"^0::/(.*)$", re.MULTILINE),
        "",
        "memory.max",
        "memory.current",
        ("active_file", "inactive_file", "slab_reclaimable"),
    ),
    _GroupFiles(
        re.compile(r"^\d+:(?:.*,)?memory(?:,.*)?:/(.*)$", re.MULTILINE),
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)


def needed(config: OLMoConfig, quantization: Quantization) -> int:
    """Return the bytes that verifying a library by running it takes at its peak.

    The weights as they are stored, once, and the largest matrix as the reference computes with it.
    Of the KV cache only what a few short texts fill is ever touched.
    """
    stored = sum(
        math.prod(tensor.shape) * _bits(tensor.dtype) // 8
        for tensor in parameters(config, quantization)
    )
    largest = max(math.prod(weight.shape) for weight in weights(config))
    return stored + _DEQUANTIZED * largest + _HERE


def available() -> int | None:
    """Return the bytes that this process may still take; None where none can tell.

    On Linux: of the machine, swap included, or of the control group or one around it where that is
    less. What a group holds of files counts as free, since it is given back.
    """
    fields = _fields(_MEMINFO)
    if "MemAvailable" not in fields:
        return None
    free = (fields["MemAvailable"] + fields.get("SwapFree", 0)) << 10
    return min([free, *_free_of_groups()])


def gibibytes(size: int) -> str:
    """Return a size as people compare it."""
    return f"{size / 2**30:.1f} GiB"


def check_memory(config: OLMoConfig, quantization: Quantization) -> None:
    """Raise OlmoError if verifying a library by running it takes more memory than there is."""
    free, wanted = available(), needed(config, quantization)
    if free is not None and free < wanted:
        raise OlmoError(
            f"running a library in {quantization.name} to verify it takes about "
            f"{gibibytes(wanted)} of memory, and {gibibytes(free)} are free here",
            "close other programs, use a machine with more memory, or build without running: "
            "doit gen_config convert compile",
        )


def _free_of_groups() -> Iterator[int]:
    """Yield what this process's control group has left, and each group around it with a limit."""
    for files in _VERSIONS:
        own = files.own.search(_text(_OWN_GROUPS))
        top = _GROUPS / files.place
        inner = top / (own[1] if own else "")
        for group in (inner, *inner.parents):
            limit, used = _text(group / files.limit).strip(), _text(group / files.used).strip()
            if limit.isdecimal() and used.isdecimal():  # not "max": no limit
                held = _fields(group / "memory.stat")
                kept = int(used) - sum(held.get(name, 0) for name in files.reclaimable)
                yield max(int(limit) - max(kept, 0), 0)
            if group == top:
                break


def _fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file of the kernel that has a name and a number on each line."""
    found = re.findall(r"^(\w+):? +(\d+)(?: kB)?$", _text(path), re.MULTILINE)
    return {name: int(number) for name, number in found}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeError):  # another system, or no such group
        return ""


def _bits(dtype: str) -> int:
    """Return the bits of an element, which the names of dtypes have as their first number."""
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found else 8
