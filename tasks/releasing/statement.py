"""Release files held against the statements that come with them: needs no matrix, and no build.

The files lie as in dist/, or as in a repository of the Hub, whose root is the release directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import CacheError
from cache.merkle import check_path
from tasks.errors import BuildError
from tasks.plan import CHAT_CONFIG
from tasks.releasing.provenance import BUILD_TYPE, DIRECTORY, PREDICATE, STATEMENT

LIBRARIES = "libs"
# In a repository and in no statement: what people write, and what git and the Hub's client keep.
_FREE = (
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
    ".gitattributes",
    ".gitignore",
)
_OTHERS = (".cache/huggingface/", ".git/")
_SHOWN = 16  # digits of a digest in a message


@dataclass(frozen=True)
class Statement:
    """A statement as read: its text, sha256 of each file by its path in dist/, and the rest."""

    text: str
    files: Mapping[str, str]
    predicate: Mapping[str, Any]

    @property
    def directory(self) -> str:
        """Name of the release directory in dist/."""
        return next(path.partition("/")[0] for path in self.files if not _is_library(path))

    @property
    def library(self) -> str:
        """Name of the library, without what it ends with: that of the statement's own file."""
        return next(Path(path).stem for path in self.files if _is_library(path))

    @property
    def actions(self) -> Mapping[str, str]:
        """Keys of the actions that it comes from, by node."""
        actions: Mapping[str, str] = self.predicate["buildDefinition"]["internalParameters"][
            "actions"
        ]
        return actions


def read(path: Path) -> Statement:
    """Read a statement of ours.

    Raises BuildError for a file that is none, or that of another library, saying what is wrong.
    """
    try:
        text = path.read_bytes().decode()
        value = json.loads(text)
        types = (value["_type"], value["predicateType"])
        definition = value["predicate"]["buildDefinition"]
        files = {subject["name"]: subject["digest"]["sha256"] for subject in value["subject"]}
        actions = definition["internalParameters"]["actions"]
        for name in files:
            check_path(name)
        good = (
            types == (STATEMENT, PREDICATE)
            and definition["buildType"] == BUILD_TYPE
            and len(files) == len(value["subject"])
            and all(isinstance(entry, str) for entry in (*files.values(), *actions.values()))
            and any(_is_library(name) for name in files)
            and any("/" in name and not _is_library(name) for name in files)
        )
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}", "run doit to write it") from None
    except CacheError as error:
        raise BuildError(f"{path}: {error}", "it was not written by Olmill") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        raise BuildError(f"{path} is no provenance of a release", "run doit to write it again")
    found = Statement(text, files, value["predicate"])
    if found.library != path.stem:
        told = f"{path} is the provenance of another library, {found.library}"
        raise BuildError(told, "run doit to write it again")
    return found


def in_directory(root: Path) -> list[Path]:
    """Return the statements that come with release files.

    Raises BuildError if there are none.
    """
    found = sorted((root / DIRECTORY).glob("*.json"))
    if not found:
        raise BuildError(
            f"{root} has no {DIRECTORY}/*.json",
            "give the directory dist/ of a build, or a downloaded repository",
        )
    return found


def differences(
    root: Path, statement: Statement, sha256_of: Callable[[Path], str]
) -> tuple[list[str], list[Path]]:
    """Return what is wrong with the files that a statement names, and the paths of those files."""
    wrong, paths = [], []
    for name, expected in sorted(statement.files.items()):
        path = placed(root, statement, name)
        paths.append(path)
        shown = path.relative_to(root).as_posix()
        if not path.is_file():
            wrong.append(f"{shown} is missing")
        elif (found := sha256_of(path)) != expected:
            wrong.append(
                f"{shown} is another file: sha256 {found[:_SHOWN]}…, "
                f"its provenance says {expected[:_SHOWN]}…"
            )
    return wrong, paths


def placed(root: Path, statement: Statement, name: str) -> Path:
    """Return where a file of a release lies below `root`."""
    if not (root / CHAT_CONFIG).is_file():
        return root / name
    return root / name.removeprefix(f"{statement.directory}/")


def unstated(root: Path, stated: set[Path]) -> list[str]:
    """Return what lies below `root` and is in no statement; a README of a repository needs none.

    Directories that are symbolic links are named as files are, for what they lead to is not looked at.
    """
    known = stated | set(in_directory(root))
    found: list[str] = []
    for directory, directories, files in os.walk(root):
        links = [name for name in directories if Path(directory, name).is_symlink()]
        paths = (Path(directory, name) for name in (*files, *links))
        found += (path.relative_to(root).as_posix() for path in paths if path not in known)
    return sorted(name for name in found if name not in _FREE and not name.startswith(_OTHERS))


def changes(before: Any, after: Any, where: str = "") -> list[str]:
    """Return how one predicate differs from another, field by field; lists are told by `name`."""
    before, after = (_by_name(value) for value in (before, after))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            line
            for key in sorted(before.keys() | after.keys())
            for line in changes(before.get(key), after.get(key), f"{where} {key}".lstrip())
        ]
    if before == after:
        return []
    return [f"{where}: {_told(before)} in its provenance, {_told(after)} by the matrix"]


def _by_name(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        return {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in value}
    return value


def _told(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _is_library(name: str) -> bool:
    return name.startswith(f"{LIBRARIES}/")
