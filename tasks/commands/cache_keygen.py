"""`doit cache keygen`: a key to sign results with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache import signing
from cache.errors import CacheError
from tasks.commands.node_command import NodeCommand
from tasks.configuration.mistakes import Mistakes, is_name
from tasks.configuration.trust import SIGNING_KEY
from tasks.graph import message
from tasks.session import Session


class Keygen(NodeCommand):
    """`doit cache keygen FILE`: a private key into a new file, its public one to the output."""

    name = "cache keygen"
    doc_purpose = "make a key that signs results: the private one into FILE"
    doc_usage = "FILE"
    cmd_options: ClassVar[Any] = ()

    def _execute(self, session: Session, pos_args: list[str]) -> int:  # noqa: ARG002  (doit's names)
        if len(pos_args) != 1:
            raise InvalidCommand("`cache keygen` makes one file: doit cache keygen FILE")
        path = Path(pos_args[0])
        try:
            public = make(path)
        except CacheError as error:
            raise InvalidCommand(message(error)) from None
        name = path.name.partition(".")[0]
        name = name if is_name("", name, Mistakes()) else "NAME"
        print(f'{name} = "{signing.write_public(public)}"')
        sys.stderr.write(
            f"{path} is the private key: give it to who signs, as {SIGNING_KEY}, and to nobody else\n"
            "the line above is the public one: put it under [trust] in matrix.toml\n"
        )
        return 0


def make(path: Path) -> bytes:
    """Make a private key in a new file that only its owner may read; return its public key.

    Raises:
        CacheError: the file is there already, or cannot be written, or there is no package that
            makes keys.
    """
    pem = signing.make_private()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise CacheError(f"{path} is there already", "choose another name for the key") from None
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}", "choose another place for the key") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask left
            file.write(pem)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CacheError(f"{path}: {error.strerror}", "choose another place for the key") from None
    return signing.public_of(signing.read_private(pem.decode(), str(path)))
