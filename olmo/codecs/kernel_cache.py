"""Conversion kernels for commands that run outside a build: compiled when first needed, and kept.

They are kept in a directory of the user's, under a name that changes with everything they depend
on: compiling takes as long as converting a billion parameters. A build has them in its own store.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from olmo.codecs.codec import file_name
from olmo.codecs.kernels import host_of_kernels
from olmo.user_cache import identity, is_trusted, keep

# Below this, numpy is done before kernels are compiled.
WORTH_COMPILING = 200_000_000  # parameters

_SOURCES = tuple(
    Path(__file__).parents[1] / name
    for name in (
        "codecs/codec.py",
        "codecs/codec_kernels.py",
        "codecs/float8_formats.py",
        "codecs/float_kernels.py",
        "codecs/kernel_library.py",
        "toolchains/link.py",
        "toolchains/zig.py",
    )
)
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "ziglang")


@contextmanager
def kernels_for(parameters: int, cache: Path) -> Iterator[Path | None]:
    """Yield a directory with kernels for this machine, to convert so many parameters.

    None where there are none for this machine, or where it is not worth compiling them. If nothing
    can be kept in `cache`, or others could write there, they are compiled for this once.

    Raises:
        OlmoError: the linker is missing or fails.
    """
    host = host_of_kernels()
    if host is None:
        yield None
        return
    kept = cache / f"kernels-{identity(_SOURCES, _TOOLS)}"
    if is_trusted(kept / file_name(host)):
        yield kept
    elif parameters < WORTH_COMPILING:
        yield None
    else:
        with tempfile.TemporaryDirectory() as temporary:
            made = _build(host, Path(temporary))
            yield kept if keep(made, kept) else made.parent


def _build(host: str, directory: Path) -> Path:
    from olmo.codecs.kernel_library import build_kernels  # noqa: PLC0415  imports tvm

    work, out = directory / "work", directory / "kernels"
    work.mkdir()
    out.mkdir()
    build_kernels(host, out / file_name(host), work)
    return out / file_name(host)
