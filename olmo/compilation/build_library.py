"""Lower and compile in one go, for the commands that build a library by hand."""

import tempfile
from contextlib import nullcontext
from pathlib import Path

from olmo.compilation.compile import compile_library
from olmo.compilation.library_plan import LibraryPlan
from olmo.errors import DISK_HINT, OlmoError
from olmo.modeling.lower import lower
from olmo.wasm.runtime_cache import runtime


def build_library(plan: LibraryPlan, cache: Path) -> None:
    """Build the planned library; what several libraries share is kept in `cache`.

    Raises:
        OlmoError: the linker fails, or the output cannot be written.
    """
    module, metadata = lower(plan.spec, plan.target.kind)
    try:
        plan.output.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=plan.output.parent, prefix=".olmo-") as work,
            runtime(cache) if plan.target.suffix == ".wasm" else nullcontext() as linked,
        ):
            compile_library(
                module, metadata, plan.target, plan.output, plan.prefix, linked, work=Path(work)
            )
    except OSError as error:
        raise OlmoError(f"{plan.output}: cannot write: {error.strerror}", DISK_HINT) from error
