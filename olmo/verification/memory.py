"""How much memory running a library takes, and how much there is. Imports neither numpy nor tvm."""

import math
import re
from pathlib import Path

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.quantization import Quantization
from olmo.weights import parameters, weights

_HERE = 300 << 20  # TVM, numpy and the rest, in bytes
_DEQUANTIZED = 12  # bytes of an element: the reference has one matrix in float32 and float64
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


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
    """Return the bytes that this process may still take, swap included; None where none can tell.

    On Linux: of the machine, or of the control group (version 2) where that is less.
    """
    try:
        text = _MEMINFO.read_text(encoding="ascii")
    except OSError:
        return None
    fields = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    if "MemAvailable" not in fields:
        return None
    free = (int(fields["MemAvailable"]) + int(fields.get("SwapFree", "0"))) << 10
    limit, used = _of_group("memory.max"), _of_group("memory.current")
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def check_memory(config: OLMoConfig, quantization: Quantization) -> None:
    """Raise OlmoError if verifying a library by running it takes more memory than there is."""
    free, wanted = available(), needed(config, quantization)
    if free is not None and free < wanted:
        raise OlmoError(
            f"running a library in {quantization.name} to verify it takes about "
            f"{wanted / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free here",
            "close other programs, use a machine with more memory, or build without running: "
            "doit gen_config convert compile",
        )


def _of_group(name: str) -> int | None:
    try:
        return int((_CGROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None


def _bits(dtype: str) -> int:
    """Return the bits of an element, which the names of dtypes have as their first number."""
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found else 8
