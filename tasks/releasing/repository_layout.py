"""What lies in a repository of the Hub: a release directory, and what there is on its libraries.

The files of the directory are at the root, as MLC's runtimes load them; the rest is below `libs/`
and `provenance/`, as in dist/.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from cache.signing import Signer
from tasks.configuration.release import Row
from tasks.plan import CHAT_CONFIG, CONVERTED, DIST, TOKENIZER, package_of, release_directory
from tasks.releasing.envelope import SUFFIX, beside, sealed
from tasks.releasing.provenance import DIRECTORY, place
from tasks.releasing.statement import LIBRARIES
from tasks.session import Session
from tasks.workspace import read_receipt

# What publishing puts there, and so deletes where no row has it any more.
OWNED = (f"{LIBRARIES}/*", f"{DIRECTORY}/*", *CONVERTED, CHAT_CONFIG, *TOKENIZER)


def files_of(
    session: Session, rows: Iterable[Row], signer: Signer | None, envelopes: Path
) -> dict[str, Path]:
    """Return the files of the repository of built rows, by their paths there.

    With a signer, the envelopes of the statements are among them, and are written into `envelopes`.
    """
    workspace = session.workspace
    found = {}
    for row in rows:
        node = workspace.graph.nodes[package_of(row)]
        statement = workspace.root / place(node)
        found[f"{DIRECTORY}/{statement.name}"] = statement
        if signer is not None:
            envelope = envelopes / beside(statement).name
            envelope.write_bytes(sealed(statement.read_bytes(), signer))
            found[f"{DIRECTORY}/{envelope.name}"] = envelope
        for path in read_receipt(workspace, node.name) or ():
            short = path.removeprefix(f"{release_directory(row)}/")
            found[short] = workspace.root / DIST / path
    return found


def is_owned(path: str) -> bool:
    """Whether a file in a repository is one that publishing puts there."""
    return any(fnmatchcase(path, pattern) for pattern in OWNED)


def is_envelope(path: str) -> bool:
    """Whether a file in a repository is a signed statement."""
    return fnmatchcase(path, f"{DIRECTORY}/*{SUFFIX}")
