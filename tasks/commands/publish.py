"""`doit publish`: release rows to repositories of the Hugging Face Hub, one commit each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from doit.exceptions import InvalidCommand

from olmo.verification.report import verified_text
from tasks.commands.node_command import JSON, NodeCommand
from tasks.commands.verify import row_mistakes, rows_of
from tasks.configuration.publication import Publication
from tasks.configuration.release import Row
from tasks.configuration.trust import SIGNING_KEY
from tasks.display.amounts import size_text
from tasks.errors import BuildError
from tasks.graph import message
from tasks.plan import package_of
from tasks.releasing.repository_layout import files_of, is_envelope, is_owned
from tasks.report.gather import cells
from tasks.session import Session
from tasks.workspace import scratch

if TYPE_CHECKING:
    from tasks.releasing.repository import Change


class Publish(NodeCommand):
    """`doit publish [ROW …]`: release rows to repositories of the Hub."""

    doc_purpose = "upload verified release rows to the Hugging Face Hub; shows what it would do"
    doc_usage = "[ROW ...]"
    cmd_options: ClassVar[Any] = (
        JSON,
        {
            "name": "push",
            "long": "push",
            "type": bool,
            "default": False,
            "help": "really do it; without this, nothing is sent",
        },
    )

    def _execute(self, session: Session, as_json: bool, push: bool, pos_args: list[str]) -> int:
        publication = session.matrix.publication if session.matrix else None
        if publication is None:
            raise InvalidCommand("the matrix has no [publish]\nhint: docs/ci.md has an example")
        unbelieved = session.workspace.shared.trust.why_unbelieved()
        if unbelieved is not None and push:
            raise InvalidCommand(f"what is published {unbelieved}\nhint: {unbelieved.hint}")
        repositories = _repositories(session, publication, rows_of(session, pos_args))
        rows = [row for found in repositories.values() for row in found]
        self._decided(session, [package_of(row) for row in rows])
        refused = refusals(session, publication, rows)
        if refused:
            sys.stderr.write("refused, and nothing was sent:\n" + "".join(refused))
            return 1
        try:
            with scratch(session.workspace) as envelopes:
                changes = look(session, repositories, envelopes)
                if as_json:
                    print(json.dumps([described(found) for found in changes], indent=2))
                else:
                    lines = [line for found in changes for line in shown(found, publication)]
                    print("\n".join(lines))
                if push:
                    return send(session, publication, repositories, changes)
        except BuildError as error:
            sys.stderr.write(f"error: {message(error)}\n")
            return 1
        if unbelieved is not None:
            sys.stderr.write(f"signatures are not shown: {SIGNING_KEY} is no trusted key\n")
        if any(changes):
            sys.stderr.write("nothing was sent: doit publish --push sends it\n")
        return 0


def _repositories(
    session: Session, publication: Publication, chosen: Iterable[Row]
) -> dict[str, list[Row]]:
    """Return the repositories of rows, each with all the rows that it has: they go together."""
    assert session.matrix is not None  # noqa: S101  (it has a [publish])
    found: dict[str, list[Row]] = {}
    for row in session.matrix.rows:
        found.setdefault(publication.repository(row), []).append(row)
    return {name: found[name] for name in map(publication.repository, chosen)}


def refusals(session: Session, publication: Publication, rows: Sequence[Row]) -> list[str]:
    """Return why rows may not be published, a line or more each; they are decided.

    A row has to be built as the matrix is now, which its verification is part of, to be what its
    provenance says, and to be verified as far as the matrix wants it.
    """
    stat = session.workspace.store.stat
    found = cells(session, {package_of(row) for row in rows})
    reports = {cell.nodes[-1]: cell.verified for cell in found}  # a package is after all it is of
    refused = []
    for row in rows:
        wrong, _ = row_mistakes(session, row, lambda path: stat.digest(path).hash)
        report = reports[package_of(row)]
        if not wrong and (report is None or not publication.allows(report["state"])):
            known = verified_text(report) if report else "nothing is known of it"
            wrong = [f"{known}; [publish] wants it {publication.verified}"]
        if wrong:
            lines = "\n".join(wrong).splitlines()
            refused.append("".join([f"{row}\n", *(f"  {line}\n" for line in lines)]))
    stat.flush()
    return refused


def look(session: Session, repositories: Mapping[str, list[Row]], envelopes: Path) -> list[Change]:
    """Ask the Hub what would have to change; signed statements are written into `envelopes`.

    Who cannot sign leaves those there as they are.

    Raises BuildError if the Hub cannot be reached, or refuses.
    """
    from tasks.releasing import repository  # noqa: PLC0415  (loads the Hub's client)

    stat, trust = session.workspace.store.stat, session.workspace.shared.trust
    signs = trust.why_unbelieved() is None

    def sha256_of(path: Path) -> str:
        return stat.digest(path).hash

    def owned(path: str) -> bool:
        return is_owned(path) and (signs or not is_envelope(path))

    changes = []
    for name, rows in repositories.items():
        files = files_of(session, rows, trust.signer if signs else None, envelopes)
        changes.append(repository.change(repository.look(name), files, owned, sha256_of))
    return changes


def send(
    session: Session,
    publication: Publication,
    repositories: Mapping[str, list[Row]],
    changes: Iterable[Change],
) -> int:
    """Send changes, a repository after the other; the first failure is the end."""
    from tasks.releasing import repository  # noqa: PLC0415  (loads the Hub's client)

    if not sys.stderr.isatty():
        repository.be_quiet()
    rest = [found for found in changes if found]
    if rest:
        repository.check_token()
    for number, found in enumerate(rest):
        name = found.repository.name
        summary = ", ".join(_counts(found)) + " by Olmill"
        described = "\n".join(_described(session, row) for row in repositories[name])
        try:
            address = repository.push(found, summary, described, private=publication.private)
        except BuildError as error:
            sys.stderr.write(f"error: {message(error)}\n")
            left = [other.repository.name for other in rest[number:]]
            sys.stderr.write(f"{number} of {len(rest)} sent; not: {', '.join(left)}\n")
            return 1
        sys.stderr.write(f"sent   {name}: {address}\n")
    return 0


def described(found: Change) -> dict[str, Any]:
    """Return a change as data; sizes are in bytes."""
    return {
        "repo": found.repository.name,
        "exists": found.repository.head is not None,
        "add": {path: file.stat().st_size for path, file in found.add.items()},
        "change": {path: file.stat().st_size for path, file in found.change.items()},
        "delete": dict(found.delete),
    }


def shown(found: Change, publication: Publication) -> list[str]:
    """Return a change in words, a line for each file."""
    value = described(found)
    new = f" (new, {'private' if publication.private else 'public'})"
    lines = [found.repository.name + ("" if value["exists"] else new)]
    lines += [
        f"  {word:6} {path}  {size_text(size)}"
        for word in ("add", "change", "delete")
        for path, size in value[word].items()
    ]
    if not found:
        lines.append("  nothing to do")
    return lines


def _counts(found: Change) -> list[str]:
    counts = {"added": found.add, "changed": found.change, "deleted": found.delete}
    return [f"{len(files)} {word}" for word, files in counts.items() if files]


def _described(session: Session, row: Row) -> str:
    keyed = session.decided[package_of(row)].keyed
    return f"{row} {keyed.key.hash}" if keyed else str(row)
