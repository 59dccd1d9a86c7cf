"""Put a finished set of files in a directory, all or nothing.

Files are made in a staging directory beside their destination and moved at the end. A manifest, if
there is one, goes last and leaves first, so a directory that has it is complete.
"""

import errno
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from olmo.errors import DISK_HINT, OlmoError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def staged(
    out: Path,
    *,
    manifests: tuple[str, ...] = (),
    stale: Callable[[str], bool] | None = None,
    nbytes: int = 0,
) -> Iterator[Path]:
    """Yield an empty staging directory; publish what is in it to `out` when the block succeeds.

    A new `out` appears whole, by one rename. In an existing one, files are replaced one by one,
    the `manifests` last, and those whose name is `stale` and not among the new ones are removed.
    When the block fails, the staging directory is removed and `out` is as it was. `nbytes` is the
    space needed, if known.

    Raises:
        OlmoError: the disk is full, or `out` cannot be written.
    """
    staging = out.parent / f".{out.name}.{secrets.token_hex(8)}.partial"
    try:
        if out.exists() and not out.is_dir():
            raise OlmoError(f"{out}: exists and is not a directory")
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_space(out.parent, nbytes)
        staging.mkdir()
        yield staging
        _move(staging, out, manifests, stale)
    except OSError as error:
        raise _write_error(error, out, nbytes) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_space(directory: Path, nbytes: int) -> None:
    if nbytes > shutil.disk_usage(directory).free:
        raise OSError(errno.ENOSPC, "No space left on device")


def _write_error(error: OSError, out: Path, nbytes: int) -> OlmoError:
    if error.errno in _FULL:
        needed = f" ({nbytes / 1e9:.2f} GB needed)" if nbytes else ""
        return OlmoError(
            f"{out}: no space left on the device{needed}; nothing was written there",
            "free space, or choose an output directory on another disk",
        )
    named = f" ({error.filename})" if error.filename else ""
    return OlmoError(f"{out}: cannot write: {error.strerror or error}{named}", DISK_HINT)


def _move(
    staging: Path, out: Path, manifests: tuple[str, ...], stale: Callable[[str], bool] | None
) -> None:
    if not out.exists():
        staging.rename(out)
        return
    new = {path.name for path in staging.iterdir()}
    for name in manifests:
        (out / name).unlink(missing_ok=True)
    if stale is not None:
        for path in sorted(out.iterdir()):
            if stale(path.name) and path.name not in new:
                path.unlink()
    for name in sorted(new, key=lambda name: (name in manifests, name)):
        (staging / name).replace(out / name)
