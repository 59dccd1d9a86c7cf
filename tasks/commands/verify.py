"""`doit verify --provenance`: released files against their statements, and those against the matrix.

`doit verify` without that option is what it was before there was this command: doit's run of the
tasks that verify libraries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache.digest import of_file
from cache.errors import CacheError
from cache.tiered import Claim
from cache.trust import Trust
from olmo.errors import unknown
from tasks.assess import State
from tasks.commands.node_command import NodeCommand
from tasks.configuration.release import Row
from tasks.display.wording import plain
from tasks.errors import BuildError
from tasks.graph import message
from tasks.node import Node
from tasks.plan import DIST, PACKAGE, package_of
from tasks.releasing.envelope import beside, signers
from tasks.releasing.provenance import place, statement
from tasks.releasing.statement import Statement, changes, differences, in_directory, read, unstated
from tasks.run import Run
from tasks.session import Session


class Verify(NodeCommand):
    """`doit verify --provenance [ROW|DIR …]`: released files against where they come from."""

    doc_purpose = "check released files against their provenance; without it, verify libraries"
    doc_usage = "--provenance [ROW|DIR ...]"
    cmd_options: ClassVar[Any] = (
        {
            "name": "provenance",
            "long": "provenance",
            "type": bool,
            "default": False,
            "help": "check rows of the matrix in dist/ (all of them by default), or a directory "
            "with a release from elsewhere: files against statements, and those of the matrix "
            "against what it gives now",
        },
    )

    def parse_execute(self, in_args: list[str]) -> int:
        """Leave everything but --provenance to `doit run verify`."""
        if "--provenance" in in_args:
            return super().parse_execute(in_args)
        run = Run(
            task_loader=self.loader,
            config=self.config,
            bin_name=self.bin_name,
            opt_vals=self.opt_vals,
        )
        return int(run.parse_execute([self.name, *in_args]))

    def _execute(self, session: Session, provenance: bool, pos_args: list[str]) -> int:
        del provenance  # it is why this is run
        directories = [Path(arg) for arg in pos_args if Path(arg).is_dir()]
        names = [arg for arg in pos_args if not Path(arg).is_dir()]
        for name in names:
            if "/" in name:  # no name of a row has one
                raise InvalidCommand(
                    f"{name} is no directory\nhint: name a row, or where files are"
                )
        keys = session.workspace.shared.trust.keys
        wrong = sum(check_directory(root, keys) for root in directories)
        if names or not directories:
            rows = rows_of(session, names)
            self._decided(session, [package_of(row) for row in rows])
            stat = session.workspace.store.stat
            for row in rows:
                mistakes, held = row_mistakes(session, row, lambda path: stat.digest(path).hash)
                if not mistakes:
                    mistakes, builders = _builders(session, row)
                    held = ", ".join(filter(None, (held, builders)))
                wrong += _tell(str(row), mistakes, held)
            stat.flush()
        return int(wrong > 0)


def rows_of(session: Session, names: Iterable[str]) -> list[Row]:
    """Return the rows that names are of, in full or as they begin; all of them for no names.

    Raises InvalidCommand for a name that is of none.
    """
    rows = {str(row): row for row in session.matrix.rows} if session.matrix else {}
    found: dict[Row, None] = {}
    for name in names:
        wanted = name.removeprefix(f"{PACKAGE}:")
        of_name = [row for text, row in rows.items() if f"{text}:".startswith(f"{wanted}:")]
        if not of_name:
            raise InvalidCommand(message(unknown("row", wanted, rows)))
        found.update(dict.fromkeys(of_name))
    return list(found) or list(rows.values())


def row_mistakes(
    session: Session, row: Row, sha256_of: Callable[[Path], str]
) -> tuple[list[str], str]:
    """Return what is wrong with a row in dist/, and what was held against each other; it is decided."""
    node = _package(session, row)
    assessed = session.decided[node.name]
    if assessed.state in (State.CACHED, State.REMOTE):  # it was made, and is not in place
        return [f"{assessed.reason or 'it is not in dist/'}; run doit"], ""
    if assessed.state is not State.CURRENT:
        return [f"it is {assessed.state.value}: {assessed.reason}; run doit"], ""
    root = session.workspace.root / DIST
    try:
        given = read(session.workspace.root / place(node))
    except BuildError as error:
        return [message(error)], ""
    wrong, _ = differences(root, given, sha256_of)
    expected = statement(session, row)
    if expected != given.text:
        wrong += _changed(given, expected)
    return wrong, _held(given)


def _builders(session: Session, row: Row) -> tuple[list[str], str]:
    """Ask the stores who made what a row comes from, if that matters; its statement is right."""
    shared = session.workspace.shared
    if not shared.trust.keys:
        return [], ""
    names = read(session.workspace.root / place(_package(session, row))).actions
    decided = (session.decided[name] for name in sorted(names))
    keys = {one.node.name: one.keyed.key for one in decided if one.keyed is not None}
    try:
        claims = shared.claims(keys.values())
    except CacheError as error:
        return [message(error)], ""
    finally:
        shared.close()
    return builders({name: claims[key] for name, key in keys.items()}, shared.trust)


def builders(claims: Mapping[str, Sequence[Claim]], trust: Trust) -> tuple[list[str], str]:
    """Return which results nobody trusted vouches for, and who built the others, in words."""
    wrong, known = [], dict[str, None]()
    for name, found in claims.items():
        believed = [one.judgement for one in found if trust.believes(one.judgement.verdict)]
        if not believed:
            told = found[0].judgement.verdict.value if found else "in no cache any more"
            wrong.append(f"{name}: its result is {told}, and {trusted_text(trust)}")
        elif believed[0].builder is None:
            known["here"] = None
        else:
            known[f"by {believed[0].builder} (key {believed[0].signer})"] = None
    return wrong, f"built {' and '.join(known)}" if known else ""


def trusted_text(trust: Trust) -> str:
    """Return whose results are believed, in words."""
    return f"only what is built here or signed by {', '.join(sorted(trust.keys))} is believed"


def check_directory(root: Path, keys: Mapping[str, bytes]) -> int:
    """Hold every file of a release in a directory against its statements; return what is wrong.

    With trusted keys, public ones by name, one of them has to have signed each statement.
    """
    wrong, stated = 0, set[Path]()
    try:
        paths = in_directory(root)
    except BuildError as error:
        raise InvalidCommand(message(error)) from None
    known: dict[Path, str] = {}

    def sha256_of(path: Path) -> str:
        if path not in known:  # weights are in the statements of several libraries
            known[path] = of_file(path).digest.hash
        return known[path]

    for path in paths:
        stated.add(beside(path))
        try:
            given = read(path)
            mistakes, files = differences(root, given, sha256_of)
            unsigned, signed = _signers(path, given, keys)
        except (BuildError, CacheError, OSError) as error:
            wrong += _tell(str(path), [message(error)], "")
            continue
        stated.update(files)
        held = ", ".join(filter(None, (_held(given), signed)))
        wrong += _tell(str(path), unsigned + mistakes, held)
    for name in unstated(root, stated):
        wrong += _tell(str(root / name), ["no provenance names it"], "")
    return wrong


def _signers(path: Path, given: Statement, keys: Mapping[str, bytes]) -> tuple[list[str], str]:
    """Return what is wrong with the envelope of a statement, and whose signature is in it."""
    place = beside(path)
    only = f"and only what {' or '.join(sorted(keys))} signed is believed"
    try:
        names = signers(place.read_bytes(), given.text.encode(), keys)
    except FileNotFoundError:
        hint = (
            "hint: what is built here is checked by `doit verify --provenance` without a directory"
        )
        return [f"it is not signed, {only}\n{hint}"] if keys else [], ""
    except BuildError as error:
        return [f"{place.name}: {error}"], ""
    if not keys:
        return [], "signature not checked, for no keys are trusted"
    if not names:
        return [f"{place.name}: it is signed by no trusted key, {only}"], ""
    return [], f"signed by {' and '.join(names)}"


def _package(session: Session, row: Row) -> Node:
    return session.workspace.graph.nodes[package_of(row)]


def _changed(given: Statement, expected: str | None) -> list[str]:
    if expected is None:
        return ["what it comes from is not built here; run doit"]
    value = json.loads(expected)
    files = {subject["name"]: subject["digest"]["sha256"] for subject in value["subject"]}
    found = changes(given.files, files, "file") + changes(given.predicate, value["predicate"])
    found = found or ["its provenance is not written as Olmill writes it"]
    return [*found, "hint: run doit to write it again"]


def _held(given: Statement) -> str:
    return f"{len(given.files)} files, {len(given.actions)} actions"


def _tell(what: str, mistakes: list[str], held: str) -> int:
    """Print a verdict; return 1 for a bad one. Names and texts may be of somebody else's choice."""
    lines = [f"WRONG  {what}" if mistakes else f"right  {what}: {held}"]
    lines += [f"  {line}" for line in "\n".join(mistakes).splitlines()]
    print("\n".join(plain(line) for line in lines))
    return int(bool(mistakes))
