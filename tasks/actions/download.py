"""Fetch files of a checkpoint at one commit of a Hub repository: what describes it, or its weights."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from olmo.checkpoints.checkpoint_files import indexed_files, split_names
from olmo.checkpoints.model_config import CONFIG_JSON
from olmo.errors import OlmoError
from olmo.json_file import read_json
from tasks.actions import hub
from tasks.actions.inspect import describe

PROGRESS = True

TOKENIZERS, RANKS = ("tokenizer.json", "tokenizer.model"), "*.tiktoken"


def run(
    params: Mapping[str, Any],
    inputs: Path,  # noqa: ARG001  (has none)
    outputs: Path,
    progress: hub.Progress | None = None,
) -> None:
    """Write files of the commit, and what `inspect.describe` says of those that describe the model.

    `files` of the parameters do, and are taken where the commit has them; `gguf` is a GGUF file that does, too. The weights are those of the first of `weights` that is there (a file name and the name of
    an index of several). The user's own Hub cache is used and, on one file system, linked rather
    than copied.

    Raises OlmoError if the Hub refuses, the commit is no checkpoint, or bytes are not what the Hub
    names.
    """
    commit = hub.commit(params["repo"], params["revision"])
    names = _describing(commit, params) if "files" in params else []
    names += _weights(commit, params["weights"]) if "weights" in params else []
    found = hub.fetch(commit, names, progress)
    described = _described(commit, found, outputs.parent) if "files" in params else {}
    for name, path in found.items():
        try:
            os.link(path, outputs / name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, outputs / name)
    for name in described.keys() - found.keys():
        (outputs / name).write_bytes(described[name])


def _describing(commit: hub.Commit, params: Mapping[str, Any]) -> list[str]:
    """Return the files of the commit that say what the model is."""
    names = [name for name in params["files"] if commit.has(name)]
    if not any(name in names for name in TOKENIZERS):
        names += commit.matching(RANKS)
    if "gguf" in params:
        return [*names, *_split(commit, params["gguf"])]
    if CONFIG_JSON not in names:
        raise OlmoError(
            f"{commit} has no {CONFIG_JSON}", "choose a repository in the form of transformers"
        )
    return names


def _described(commit: hub.Commit, found: Mapping[str, Path], scratch: Path) -> Mapping[str, bytes]:
    """Return what `inspect.describe` says of files, as of one directory."""
    with tempfile.TemporaryDirectory(dir=scratch) as work:
        for name, path in found.items():
            (Path(work) / name).symlink_to(path)
        try:
            return describe(Path(work))
        except OlmoError as error:
            raise OlmoError(str(error).replace(f"{work}/", f"{commit}: "), error.hint) from None


def _split(commit: hub.Commit, name: str) -> tuple[str, ...]:
    """Return all files of the model that a GGUF file belongs to."""
    names = split_names(name)
    for other in names:
        if not commit.has(other):
            known = ", ".join(commit.matching("*.gguf")) or "none"
            raise OlmoError(f"{commit} has no {other}", f"GGUF files there: {known}")
    return names


def _weights(commit: hub.Commit, formats: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the one file that holds the weights, or the index of several and these."""
    known = list(formats)
    for single, index in known:
        if commit.has(single):
            return (single,)
        if commit.has(index):
            return (index, *_indexed(commit, index))
    wanted = " or ".join(single for single, _ in known)
    hint = "choose a repository in the form of transformers"
    if found := commit.matching("*.gguf"):
        hint = f'name one of its GGUF files in the matrix, such as file = "{found[0]}"'
    raise OlmoError(f"{commit} has no {wanted}", hint)


def _indexed(commit: hub.Commit, index: str) -> tuple[str, ...]:
    """Return the files that an index names; an index leads nowhere else."""
    fetched = hub.fetch(commit, [index])[index]
    files = indexed_files(read_json(fetched), f"{commit}: {index}")
    for name in files:
        if not commit.has(name):
            raise OlmoError(
                f"{commit}: {index} names {name}, which is not there",
                "choose a commit that is whole",
            )
    return tuple(files)
