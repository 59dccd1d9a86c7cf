"""The runtime for the web for commands that run outside a build: made when first needed, and kept."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from olmo.user_cache import identity, is_trusted, keep
from olmo.wasm.native import NATIVE
from olmo.wasm.runtime import ARCHIVE, OBJECT, build_runtime

_FILES = (OBJECT, ARCHIVE)
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "ziglang")


@contextmanager
def runtime(cache: Path) -> Iterator[Path]:
    """Yield the directory of the runtime, which takes two minutes of a processor to make.

    If nothing can be kept in `cache`, or others could write there, it is made for this once.

    Raises:
        OlmoError: as `olmo.wasm.runtime.build_runtime`.
    """
    sources = sorted(path for path in NATIVE.iterdir() if path.is_file())
    kept = cache / identity([*sources, NATIVE.parent / "runtime.py"], _TOOLS)
    if all(is_trusted(kept / name) for name in _FILES):
        yield kept
        return
    with tempfile.TemporaryDirectory() as temporary:
        work, made = Path(temporary, "work"), Path(temporary, "runtime")
        work.mkdir()
        made.mkdir()
        build_runtime(NATIVE, made, work)
        is_kept = [keep(made / name, kept) for name in _FILES]
        yield kept if all(is_kept) else made
