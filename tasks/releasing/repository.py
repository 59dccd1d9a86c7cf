"""Repositories of the Hugging Face Hub: what they hold, and one commit that makes them hold files.

The client reads HF_TOKEN and HF_ENDPOINT itself, sends large files by LFS or Xet before the commit,
and sends no large file that the Hub has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_token,
)
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import disable_progress_bars

from tasks.actions.hub import Content
from tasks.errors import BuildError

NO_TOKEN = BuildError(
    "the Hub takes nothing without a token",
    "set HF_TOKEN to one that may write, or run: hf auth login",
)


@dataclass(frozen=True)
class Repository:
    """A repository at one commit; `head` is None where there is none that can be seen."""

    name: str
    head: str | None
    files: Mapping[str, Content]


@dataclass(frozen=True)
class Change:
    """What makes a repository hold files: those to add, to change (by path there), and to delete."""

    repository: Repository
    add: Mapping[str, Path]
    change: Mapping[str, Path]
    delete: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(self.add or self.change or self.delete)


def look(name: str) -> Repository:
    """Ask the Hub what a repository holds.

    Raises BuildError if the Hub cannot be reached, or refuses.
    """
    with _explaining(name, "read"):
        try:
            head = HfApi().repo_info(name).sha
        except RepositoryNotFoundError:
            return Repository(name, None, {})
        files = {
            entry.path: Content(entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.size)
            for entry in HfApi().list_repo_tree(name, revision=head, recursive=True)
            if isinstance(entry, RepoFile)
        }
    return Repository(name, head, files)


def change(
    there: Repository,
    files: Mapping[str, Path],
    owned: Callable[[str], bool],
    sha256_of: Callable[[Path], str],
) -> Change:
    """Return what makes a repository hold `files`; of others, it loses those that are `owned`."""
    new = {path: file for path, file in sorted(files.items()) if path not in there.files}
    other = {
        path: file
        for path, file in sorted(files.items())
        if path in there.files and not _is_of(there.files[path], file, sha256_of)
    }
    gone = {
        path: content.size
        for path, content in sorted(there.files.items())
        if path not in files and owned(path)
    }
    return Change(there, new, other, gone)


def _is_of(content: Content, path: Path, sha256_of: Callable[[Path], str]) -> bool:
    """Whether a file here has these bytes; sha256, which names large ones, may be known already."""
    if path.stat().st_size != content.size:
        return False
    is_large = len(content.hash) == hashlib.sha256().digest_size * 2
    return sha256_of(path) == content.hash if is_large else content.is_of(path)


def check_token() -> None:
    """Raise BuildError if there is no token at all."""
    if not get_token():
        raise NO_TOKEN


def push(wanted: Change, message: str, description: str, *, private: bool) -> str:
    """Make a change in one commit, in a new repository where there is none; return its address.

    Raises BuildError if the Hub refuses, or the repository is no longer as it was looked at; then
    no file in it is changed.
    """
    name, head = wanted.repository.name, wanted.repository.head
    files = {**wanted.add, **wanted.change}
    adding = (CommitOperationAdd(path, file) for path, file in files.items())
    deleting = (CommitOperationDelete(path, is_folder=False) for path in wanted.delete)
    if head is None:
        with _explaining(name, "create"):
            HfApi().create_repo(name, private=private)
            head = HfApi().repo_info(name).sha
    with _explaining(name, "write to"):
        made = HfApi().create_commit(
            name,
            [*adding, *deleting],
            commit_message=message,
            commit_description=description,
            parent_commit=head,
        )
    return str(made.commit_url)


def be_quiet() -> None:
    """Show no bars: for where there is no terminal."""
    disable_progress_bars()


@contextmanager
def _explaining(name: str, doing: str) -> Iterator[None]:
    """Say what an error of the client means, in one line with a way out."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # has no annotations
    try:
        yield
    except HfHubHTTPError as error:
        raise _of_status(error, f"{name}: cannot {doing} it") from error
    except OfflineModeIsEnabled:
        raise BuildError(f"{name}: cannot {doing} it offline", "unset HF_HUB_OFFLINE") from None
    except Exception as error:
        of_transport = type(error).__module__.startswith("httpx")  # the client exports none
        if not of_transport and not isinstance(error, OSError | ValueError | RuntimeError):
            raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise BuildError(
            f"{name}: cannot {doing} it: {first or type(error).__name__}",
            f"check the network and HF_ENDPOINT ({constants.ENDPOINT}), and run it again",
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _of_status(error: HfHubHTTPError, what: str) -> BuildError:
    status = error.response.status_code
    hints = {
        401: "HF_TOKEN is not valid, or may not see it: give one that may write",
        403: "HF_TOKEN may not do that: give it write permission for this owner's repositories",
        404: "it is gone, or HF_TOKEN may not see it",
        409: "somebody else makes it now: run it again",
        412: "it was changed meanwhile: run it again",
        429: "the Hub limits requests: run it again later",
    }
    told = error.server_message
    text = f"{what}: the Hub answered {status}" + (f" ({told})" if told else "")
    return BuildError(text, hints.get(status, "run it again later: what is done stays done"))
