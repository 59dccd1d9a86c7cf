"""Fetch a model's checkpoint files at one commit of a Hub repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from olmo.checkpoint_files import indexed_files
from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.model_config import CONFIG_JSON, ModelConfig
from tasks.actions import hub
from tasks.actions.inspect import ARCHITECTURE, write_architecture

PROGRESS = True


def run(
    params: Mapping[str, Any],
    inputs: Path,  # noqa: ARG001  (has none)
    outputs: Path,
    progress: hub.Progress | None = None,
) -> None:
    """Write the checkpoint's files and `architecture.json`.

    `files` of the parameters are taken where the commit has them, and the weights of the first of
    `weights` (a file name and the name of an index of several). The user's own Hub cache is used
    and, on one file system, linked rather than copied.

    Raises OlmoError if the Hub refuses, the commit is no checkpoint, or bytes are not what the Hub
    names.
    """
    commit = hub.commit(params["repo"], params["revision"])
    names = [name for name in params["files"] if commit.has(name)]
    if CONFIG_JSON not in names:
        raise OlmoError(
            f"{commit} has no {CONFIG_JSON}", "choose a repository in the form of transformers"
        )
    weights, index = _weights(commit, params["weights"])
    if index is not None:
        names.append(index)
        weights = _indexed(commit, index)
    found = hub.fetch(commit, [*names, *weights], progress)
    fields = read_json(found[CONFIG_JSON])
    config = ModelConfig(fields, f"{commit}: {CONFIG_JSON}").checked()
    write_architecture(config, outputs / ARCHITECTURE)
    for name, path in found.items():
        try:
            os.link(path, outputs / name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, outputs / name)


def _weights(
    commit: hub.Commit, formats: Iterable[tuple[str, str]]
) -> tuple[tuple[str, ...], str | None]:
    """Return the one file that holds the weights, or the index of several."""
    known = list(formats)
    for single, index in known:
        if commit.has(single):
            return (single,), None
        if commit.has(index):
            return (), index
    wanted = " or ".join(single for single, _ in known)
    raise OlmoError(f"{commit} has no {wanted}", "choose a repository in the form of transformers")


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
