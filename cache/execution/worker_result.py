"""The results that workers of the Remote Execution API write, as results of ours.

A worker names an output directory by the digest of a `Tree`; here its files are named one by one,
as docs/keys.md has them. Nothing is believed: what a tree says is held against its digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache import digest as digests
from cache import merkle, wire
from cache.action import METADATA, ActionResult, decode_result, encode_result
from cache.errors import CorruptBlob, InvalidPath
from cache.remote.transport import MAX_ENTRY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from cache.digest import Digest


def result_of(message: bytes, read: Callable[[Digest], bytes]) -> ActionResult:
    """Return the result in an untrusted `ActionResult` of a worker.

    `read` returns blobs, verified; it is asked for the trees of output directories.

    Raises:
        CacheError: it is no `ActionResult`, that of a failed action, one without outputs, or one
            whose paths `decode_result` would refuse; or what `read` raises.
    """
    fields = wire.parse(message)
    exit_code = wire.integer(fields, 4)
    if exit_code != 0:
        raise CorruptBlob(f"the result of a failed action (exit code {exit_code})")
    if not fields.keys().isdisjoint((10, 11, 12)):
        raise InvalidPath("an output is a symlink")
    outputs: dict[str, Digest] = {}

    def add(path: str, digest: Digest) -> None:
        if path in outputs:
            raise InvalidPath(f"output {path[:200]!r} is given twice")
        outputs[path] = digest

    for file in map(wire.parse, wire.messages(fields, 2)):
        add(wire.string(file, 1), digests.decode(wire.message(file, 2)))
    for directory in map(wire.parse, wire.messages(fields, 3)):
        place = wire.string(directory, 1)
        for path, digest in _files(digests.decode(wire.message(directory, 3)), read).items():
            add(f"{place}/{path}", digest)
    run = wire.message(fields, METADATA)  # says how long it ran
    return decode_result(encode_result(ActionResult(outputs)) + wire.field(METADATA, run))


def _files(digest: Digest, read: Callable[[Digest], bytes]) -> dict[str, Digest]:
    """Return the files of a `Tree` by path."""
    if digest.size > MAX_ENTRY_BYTES:
        raise CorruptBlob(f"tree {digest}: larger than {MAX_ENTRY_BYTES} bytes")
    fields = wire.parse(read(digest))
    root = wire.message(fields, 1)
    blobs = {digests.of_bytes(part): part for part in (root, *wire.messages(fields, 2))}
    return dict(merkle.files(merkle.Tree(digests.of_bytes(root), blobs)))
