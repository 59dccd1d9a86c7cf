"""`doit report`: the release matrix as Markdown, JSON or a page."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from doit import get_initial_workdir
from doit.exceptions import InvalidCommand

from tasks.commands.node_command import NodeCommand
from tasks.durations import durations
from tasks.plan import DIST
from tasks.report.gather import release
from tasks.report.json_form import json_text
from tasks.report.markdown import markdown_text
from tasks.report.page import page_text
from tasks.report.releases import Release
from tasks.session import Session, record

FORMS: Mapping[str, Callable[[Release, str], str]] = {
    "markdown": markdown_text,
    "json": lambda found, _: json_text(found),
    "html": page_text,
}
SUFFIXES = {".md": "markdown", ".json": "json", ".html": "html", ".htm": "html"}


class Report(NodeCommand):
    """`doit report [TASK …]`: what the matrix has become, to show to others."""

    doc_purpose = "write the release matrix as Markdown, JSON or one HTML page"
    doc_usage = "[TASK ...]"
    cmd_options: ClassVar[Any] = (
        {
            "name": "form",
            "long": "format",
            "type": str,
            "default": "",
            "help": "markdown, json or html (default: by the name of FILE, else markdown)",
        },
        {
            "name": "output",
            "long": "output",
            "short": "o",
            "type": str,
            "default": "",
            "help": "write it into this FILE, with links as seen from there",
        },
    )

    def _execute(self, session: Session, form: str, output: str, pos_args: list[str]) -> int:
        file = Path(get_initial_workdir() or Path.cwd(), output) if output else None
        write = FORMS[_form(form, file)]
        self._decided(session, pos_args)
        found = release(
            session,
            lambda name: record(self.dep_manager.get_values(name)),
            durations(session, self.dep_manager.backend),
        )
        self._tell(session)
        text = write(found, _dist(session.workspace.root, file))
        if file is None:
            sys.stdout.write(text)
            return 0
        _replace(file, text)
        sys.stderr.write(f"wrote {output}\n")
        return 0


def _form(form: str, file: Path | None) -> str:
    """Return the name of the form that is asked for."""
    if not form:
        form = "markdown" if file is None else SUFFIXES.get(file.suffix.lower(), "")
    if not form and file is not None:
        raise InvalidCommand(
            f"{file.name} does not say which form it is to have\n"
            f"hint: add --format {', --format '.join(FORMS)}, or end it in {', '.join(SUFFIXES)}"
        )
    if form not in FORMS:
        raise InvalidCommand(f"no form {form!r}\nhint: --format is one of {', '.join(FORMS)}")
    return form


def _dist(root: Path, file: Path | None) -> str:
    """Return where dist/ is, seen from the file that is written or from the project."""
    base = root if file is None else file.parent.resolve()
    return Path(os.path.relpath(root.resolve() / DIST, base)).as_posix() if file else DIST


def _replace(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InvalidCommand(f"cannot write {file}: {error.strerror}") from None
