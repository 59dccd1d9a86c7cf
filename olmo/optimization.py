"""How much a library is optimised, as MLC's users write it: a level or flags.

`O0` to `O3` are the levels of TVM's passes; from `O1` on, libraries for CUDA record CUDA graphs.
`O2;cudagraph=0` changes a flag of a level; flags without a level start from O2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from olmo.errors import OlmoError, unknown

# MLC's flags that choose libraries outside the compiler's own code, which are not linked in here.
_EXTERNAL = ("cublas_gemm", "cutlass", "faster_transformer", "flashinfer", "ipc_allreduce_strategy")


@dataclass(frozen=True, slots=True)
class Optimization:
    """`level` of TVM's pass context, and whether to record CUDA graphs where there are any."""

    level: int
    cudagraph: bool


LEVELS: Mapping[str, Optimization] = {
    "O0": Optimization(0, cudagraph=False),
    "O1": Optimization(1, cudagraph=True),
    "O2": Optimization(2, cudagraph=True),
    "O3": Optimization(3, cudagraph=True),
}
_VALUES = {"0": False, "1": True}


def optimization(text: str, kind: str) -> Optimization:
    """Read `text` for a target of this kind.

    Raises:
        OlmoError: an unknown level or flag, a flag given twice or of another value than 0 or 1, or
            one that the target has no use for.
    """
    found = LEVELS["O2"]
    for number, item in enumerate(part.strip() for part in text.split(";")):
        name, equals, value = item.partition("=")
        if not equals and number == 0:
            if item not in LEVELS:
                raise unknown("optimisation level", item, LEVELS)
            found = LEVELS[item]
            continue
        if name in _EXTERNAL:
            raise OlmoError(
                f"optimisation flag {name!r} is not supported",
                "libraries hold only code that is compiled here; leave the flag out",
            )
        if name != "cudagraph":
            raise unknown("optimisation flag", name, ("cudagraph",))
        if value not in _VALUES:
            raise OlmoError(f"optimisation flag {name} must be 0 or 1, not {value!r}")
        if _VALUES[value] and kind != "cuda":
            raise OlmoError(f"optimisation flag {name}=1 is for CUDA targets only")
        found = replace(found, cudagraph=_VALUES[value])
    return found
