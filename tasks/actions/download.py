"""Fetch a model's checkpoint files at one commit of a Hub repository."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from olmo.errors import OlmoError
from olmo.model_config import read_model_config
from tasks.actions.inspect import write_architecture


def run(params: Mapping[str, Any], inputs: Path, outputs: Path) -> None:  # noqa: ARG001  (has none)
    """Write the checkpoint's files and `architecture.json`.

    The user's own Hub cache is used and, on one file system, linked rather than copied.

    Raises OlmoError if the Hub refuses or a file is not what the Hub names.
    """
    repo, revision = params["repo"], params["revision"]
    try:
        snapshot = Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=[*params["patterns"], *params["weights"][0]],
            )
        )
    except Exception as error:  # the Hub client raises its own, its HTTP library's and OSError
        raise OlmoError(
            f"cannot download {repo} at {revision}: {str(error).strip().splitlines()[0]}",
            "check the network and the repository's name, and set HF_TOKEN if it is gated",
        ) from error
    found = sorted(path for path in snapshot.iterdir() if path.is_file())
    if not any(path.suffix == ".safetensors" for path in found):
        raise OlmoError(f"{repo} at {revision} has no safetensors weights")
    if not (snapshot / "config.json").is_file():
        raise OlmoError(f"{repo} at {revision} has no config.json")
    write_architecture(read_model_config(snapshot), outputs / "architecture.json")
    for path in found:
        blob = path.resolve()
        check(blob, f"{repo}: {path.name}")
        try:
            os.link(blob, outputs / path.name)
        except OSError:
            shutil.copyfile(blob, outputs / path.name)


def check(blob: Path, what: str) -> None:
    """Compare a blob of the Hub cache with its name: the sha256 of a large file, else git's sha1.

    Raises OlmoError if the content is another.
    """
    name = blob.name
    if len(name) == hashlib.sha256().digest_size * 2:
        hashed = hashlib.sha256()
    else:
        hashed = hashlib.sha1(usedforsecurity=False)
        hashed.update(b"blob %d\0" % blob.stat().st_size)
    with blob.open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    if hashed.hexdigest() != name:
        raise OlmoError(
            f"{what}: the downloaded bytes are not the ones the Hub names",
            f"remove {blob} and run doit again",
        )
