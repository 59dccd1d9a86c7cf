"""Annotations of GitHub Actions: lines that make it show an error or a warning beside a file.

Source: "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tasks.display.redaction import redacted

_PLACE = re.compile(r"line (\d+), column (\d+)")  # as tomllib says it


def in_github(environment: Mapping[str, str]) -> bool:
    """Whether this runs in GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def annotated(text: str, environment: Mapping[str, str], file: Path | None = None) -> str:
    """Return an error, in GitHub Actions with the annotation of it on a line of its own."""
    if not in_github(environment):
        return text
    return f"{text}\n{annotation('error', text, 'Olmill', base_of(environment), file)}"


def annotation(level: str, text: str, title: str, base: Path, file: Path | None = None) -> str:
    """Return the command that annotates a file, if the text is about one, or the run."""
    file = file or _file_of(text, base)
    about = {"title": title}
    if file is not None:
        about = {"file": os.path.relpath(file, base), **about}
        if (place := _PLACE.search(text)) is not None:
            about |= {"line": place[1], "col": place[2]}
    properties = ",".join(f"{name}={_property(value)}" for name, value in about.items())
    return f"::{level} {properties}::{data(redacted(text))}"


def _file_of(text: str, base: Path) -> Path | None:
    """Return the first file of the repository that a text names."""
    for word in re.findall(r"[\w./+@-]*[\w-]", text)[:100]:
        path = base / word
        if {".", "/"} & set(word) and path.is_file() and path.resolve().is_relative_to(base):
            return Path(path)
    return None


def base_of(environment: Mapping[str, str]) -> Path:
    """Return the directory that annotations count from."""
    return Path(environment.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()


def data(text: str) -> str:
    """Return a text as the last part of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return data(text).replace(":", "%3A").replace(",", "%2C")
