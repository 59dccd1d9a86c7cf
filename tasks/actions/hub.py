"""The Hugging Face Hub through its own client: what a commit holds, and verified files of it.

The client reads HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE itself, keeps files in
the user's Hub cache, fetches several at once, goes on where a connection was cut, and waits as long
as a Hub that limits requests asks for. Here its answers are checked and its errors explained.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import tqdm

from olmo.errors import OlmoError

Progress = Callable[[int, int], None]

PARALLEL = 8
_BYTES_ON_DISK = "huggingface_hub.snapshot_download"  # the client's name of that bar
_SHA256_DIGITS, _CHUNK = 64, 1 << 20


@dataclass(frozen=True)
class Content:
    """How the Hub names a file's bytes: sha256 of a large file, else git's sha1 of a blob."""

    hash: str
    size: int

    def is_of(self, path: Path) -> bool:
        """Return whether the file has these bytes."""
        if len(self.hash) == _SHA256_DIGITS:
            hashed = hashlib.sha256()
        else:
            hashed = hashlib.sha1(usedforsecurity=False)
            hashed.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
        return hashed.hexdigest() == self.hash


@dataclass(frozen=True)
class Commit:
    """One commit of a repository; `files` at its top level, None where the Hub was not reached."""

    repo: str
    revision: str
    files: Mapping[str, Content] | None

    def __str__(self) -> str:
        return f"{self.repo} at {self.revision}"

    def has(self, name: str) -> bool:
        """Return whether the commit has a file of this name.

        Raises:
            OlmoError: without the Hub, if its cache on this machine does not tell.
        """
        if self.files is not None:
            return name in self.files
        found = try_to_load_from_cache(self.repo, name, revision=self.revision)
        if isinstance(found, str):
            return True
        if found is None and name in self._cached_names(name):
            raise _not_cached(self, name)
        return False

    def matching(self, pattern: str) -> list[str]:
        """Return the names of files that a shell pattern names, sorted.

        Raises:
            OlmoError: without the Hub, if its cache on this machine does not tell.
        """
        if self.files is not None:
            return sorted(fnmatch.filter(self.files, pattern))
        names = self._cached_names(pattern)
        if pattern in names:
            raise _not_cached(self, pattern)
        return sorted(name for name in fnmatch.filter(names, pattern) if "/" not in name)

    def _cached_names(self, name: str) -> set[str]:
        """Return the names of the commit's files as the cache knows them; `name` if it does not."""
        try:
            return {file.path for file in get_cached_repo_tree(self.repo, revision=self.revision)}
        except CachedRepoTreeNotFoundError:
            return {name}


def commit(repo: str, revision: str) -> Commit:
    """Ask the Hub what a commit holds; where it cannot be reached, the cache will have to tell.

    Raises:
        OlmoError: the Hub refuses, or has no such repository or commit.
    """
    try:
        with _quiet():
            tree = list(HfApi().list_repo_tree(repo, revision=revision))
    except Exception as error:
        if _is_unreachable(error):
            return Commit(repo, revision, None)
        raise _explained(error, repo, revision) from error
    files = {
        entry.path: Content(entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.size)
        for entry in tree
        if isinstance(entry, RepoFile)
    }
    return Commit(repo, revision, files)


def fetch(
    wanted: Commit, names: Iterable[str], progress: Progress | None = None
) -> dict[str, Path]:
    """Return files of a commit by name, downloaded where the cache lacks them, each verified.

    The paths lie in the Hub cache and are not symbolic links. `progress(done, total)` is called
    with bytes, those that the cache has among them.

    Raises:
        OlmoError: a file cannot be had, or its bytes are not those that the Hub names; they are
            not left in the cache.
    """
    listed = sorted(set(names))
    with _explaining(wanted):
        snapshot = Path(
            snapshot_download(
                wanted.repo,
                revision=wanted.revision,
                allow_patterns=[glob.escape(name) for name in listed],
                max_workers=PARALLEL,
                tqdm_class=_Silent if progress is None else _told(wanted, listed, progress),
                local_files_only=wanted.files is None,
            )
        )
    return {name: _verified(wanted, name, snapshot / name) for name in listed}


def _verified(wanted: Commit, name: str, path: Path) -> Path:
    """Return the file behind a snapshot's link; one that is damaged is fetched once more."""
    if not path.is_file():
        raise _not_cached(wanted, name)
    content = _content(wanted, name, path)
    if content.is_of(path):
        return path.resolve()
    if wanted.files is None:
        raise OlmoError(
            f"{wanted}: {name} in the Hub cache is damaged",
            f"remove {path.resolve()} and run doit again with the network",
        )
    with _explaining(wanted):
        hf_hub_download(
            wanted.repo,
            name,
            revision=wanted.revision,
            force_download=True,
            tqdm_class=_Silent,
        )
    if not content.is_of(path):
        for damaged in {path.resolve(), path}:
            damaged.unlink(missing_ok=True)
        raise OlmoError(
            f"{wanted}: the bytes received for {name} are not the ones the Hub names",
            "run doit again; if it stays so, a proxy or the mirror in HF_ENDPOINT alters them",
        )
    return path.resolve()


def _content(wanted: Commit, name: str, path: Path) -> Content:
    if wanted.files is not None:
        return wanted.files[name]
    if not path.is_symlink():
        raise OlmoError(
            f"{wanted}: without the Hub, {name} cannot be verified",
            "run doit with the network",
        )
    # the cache names its blobs as the Hub does
    return Content(path.readlink().name, path.stat().st_size)


class _Silent(tqdm):
    """A progress bar that shows nothing: doit's display belongs to the reporter."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = {**kwargs, "disable": True}
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]  # has no annotations


def _told(wanted: Commit, names: Iterable[str], progress: Progress) -> type[_Silent]:
    """Return a bar that tells `progress` what arrives of files, from one thread at a time."""
    if wanted.files is None:
        return _Silent
    sizes = {name: wanted.files[name].size for name in names}
    done, total, lock = 0, sum(sizes.values()), Lock()
    for name, size in sizes.items():
        if isinstance(try_to_load_from_cache(wanted.repo, name, revision=wanted.revision), str):
            done += size
    progress(done, total)

    class Told(_Silent):
        """The client counts in bars of several kinds: this one listens to the bytes on disk."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._counts = kwargs.get("name") == _BYTES_ON_DISK

        def update(self, n: float | None = 1) -> bool | None:
            """Count bytes; a file that begins anew takes its own back."""
            nonlocal done
            if self._counts:
                with lock:
                    done += int(n or 0)
                    progress(done, total)
            return None

    return Told


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's warnings about retries off the screen; its errors say enough."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # has no annotations
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def _explaining(wanted: Commit) -> Iterator[None]:
    try:
        with _quiet():
            yield
    except Exception as error:
        raise _explained(error, wanted.repo, wanted.revision) from error


def _is_unreachable(error: Exception) -> bool:
    """Return whether there was no answer at all: offline, no route, no name, a time-out."""
    return isinstance(error, OfflineModeIsEnabled) or (
        not isinstance(error, HfHubHTTPError | ValueError)
        and type(error).__module__.partition(".")[0].startswith("httpx")
    )


def _not_cached(wanted: Commit, name: str) -> OlmoError:
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
    return OlmoError(
        f"{wanted}: {why}, and the Hub cache does not have {name}",
        "unset HF_HUB_OFFLINE once"
        if constants.HF_HUB_OFFLINE
        else "check the network, the proxy and HF_ENDPOINT, and run doit again",
    )


def _explained(error: Exception, repo: str, revision: str) -> OlmoError:
    """Return what an error of the client means, in one line with a way out."""
    what = f"{repo} at {revision}"
    page = f"{constants.ENDPOINT}/{repo}"
    for kind, message, hint in (
        (
            GatedRepoError,
            "is gated, and this account has no access",
            f"ask for access on {page}, then set HF_TOKEN to a token of that account",
        ),
        (
            RepositoryNotFoundError,
            "is not there, or private",
            "check `repo` in the matrix; for a private one set HF_TOKEN",
        ),
        (RevisionNotFoundError, "is not there: no such commit", f"choose one of {page}"),
    ):
        if isinstance(error, kind):
            return OlmoError(f"{what} {message}", hint)
    if isinstance(error, HfHubHTTPError):
        return _of_status(error, what)
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        cause = error.__cause__
        return _explained(cause if isinstance(cause, Exception) else error, repo, revision)
    if isinstance(error, OSError) and error.errno is not None:
        return OlmoError(
            f"cannot download {what}: {error.strerror} ({error.filename})",
            "free space for the Hub cache, or choose another place with HF_HOME",
        )
    return OlmoError(
        f"cannot download {what}: {_first_line(error)}",
        "check the network and HF_ENDPOINT, and run doit again: complete files are kept",
    )


def _of_status(error: HfHubHTTPError, what: str) -> OlmoError:
    status = error.response.status_code
    hints = {
        401: "HF_TOKEN is not valid: make a new one, or unset it for a public repository",
        403: "HF_TOKEN may not read this repository: give it the permission",
        429: "the Hub limits requests: try again later, or set HF_TOKEN for a higher limit",
    }
    return OlmoError(
        f"cannot download {what}: the Hub answered {status}",
        hints.get(status, "try again later: complete files are kept"),
    )


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
