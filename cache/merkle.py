"""File trees as Merkle trees of Remote Execution API `Directory` messages.

A tree's root digest identifies every path and every content in it, and nothing else: no modes,
no times, no order of insertion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cache import digest as digests
from cache import wire
from cache.digest import Digest
from cache.errors import CorruptBlob, InvalidPath, MissingBlob

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PATH_BYTES = 4096  # PATH_MAX: a longer path could never be materialised
MAX_ENTRIES = 1_000_000  # a few nested messages can unfold into a tree without end

_NOT_NAMES = frozenset(("", ".", ".."))
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Tree:
    """A root and every `Directory` message below it, by digest; files are only named."""

    root: Digest
    blobs: Mapping[Digest, bytes]


@lru_cache(maxsize=1 << 12)  # a graph has few names, again and again
def check_path(path: str) -> None:
    """Accept a canonical relative path: names joined by single slashes, and nothing clever.

    Raises:
        InvalidPath: the path is empty, absolute, too long or no Unicode text, or holds an empty
            part, `.`, `..`, a backslash or a control character.
    """
    parts = path.split("/")
    if not _NOT_NAMES.isdisjoint(parts):
        if path.startswith("/"):
            reason = "is absolute"
        elif ".." in parts:
            reason = 'holds ".."'
        elif "." in parts:
            reason = 'holds "."'
        else:
            reason = "holds an empty part" if path else "is empty"
    elif _FORBIDDEN.search(path) is not None:
        reason = "holds a backslash or a control character"
    elif len(path) * 4 > MAX_PATH_BYTES and len(path.encode(errors="replace")) > MAX_PATH_BYTES:
        reason = f"is longer than {MAX_PATH_BYTES} bytes"
    elif not path.isascii() and not _is_unicode(path):
        reason = "is not Unicode text"
    else:
        return
    raise InvalidPath(
        f"path {path[:200]!r} {reason}", "use a relative path with forward slashes, such as a/b.bin"
    )


def tree(entries: Mapping[str, Digest | Tree]) -> Tree:
    """Return the tree that has `entries` at their paths; a `Tree` value is a ready subtree.

    No file is executable.

    Raises:
        InvalidPath: a path is refused by `check_path`, or is a file and a directory at once.
    """
    files: dict[str, dict[str, Digest]] = {"": {}}
    directories: dict[str, dict[str, Digest]] = {"": {}}
    blobs: dict[Digest, bytes] = {}
    for path, entry in entries.items():
        check_path(path)
        parent, _, name = path.rpartition("/")
        ancestor = parent
        while ancestor not in files:
            files[ancestor], directories[ancestor] = {}, {}
            ancestor = ancestor.rpartition("/")[0]
        if isinstance(entry, Digest):
            files[parent][name] = entry
        else:
            directories[parent][name] = entry.root
            blobs.update(entry.blobs)

    # Children before parents: a directory's digest is known before its parent needs it.
    root = digests.EMPTY
    for path in sorted(files, key=_depth, reverse=True):
        message = _directory(files[path], directories[path])
        root = digests.of_bytes(message)
        blobs[root] = message
        if path:
            parent, _, name = path.rpartition("/")
            if name in files[parent] or name in directories[parent]:
                raise InvalidPath(
                    f"path {path[:200]!r} is a directory, and also a file or a ready subtree",
                    "rename one of them",
                )
            directories[parent][name] = root
    return Tree(root, blobs)


def files(tree: Tree) -> Mapping[str, Digest]:
    """Return the files of a tree by path, sorted; the inverse of `tree`.

    The tree may come from elsewhere: every message is checked against its digest.

    Raises:
        MissingBlob: a `Directory` message is absent.
        CorruptBlob: a message is not what its digest says, or no `Directory`, or the tree unfolds
            into more than `MAX_ENTRIES` entries.
        InvalidPath: a name is no plain name, occurs twice, or is a symlink.
    """
    found: dict[str, Digest] = {}
    parsed: dict[Digest, _Directory] = {}
    pending = [("", tree.root)]
    entries = 0
    while pending:
        prefix, root = pending.pop()
        if root not in parsed:
            parsed[root] = _parse(tree, root)
        directory = parsed[root]
        entries += 1 + len(directory.files) + len(directory.directories)
        if entries > MAX_ENTRIES:
            raise CorruptBlob(f"directory {tree.root}: more than {MAX_ENTRIES} entries")
        for name, digest in directory.files.items():
            check_path(prefix + name)
            found[prefix + name] = digest
        for name, digest in directory.directories.items():
            check_path(prefix + name)
            pending.append((f"{prefix}{name}/", digest))
    return dict(sorted(found.items()))


def _directory(files: Mapping[str, Digest], directories: Mapping[str, Digest]) -> bytes:
    """Return the canonical `Directory` message: names in code point order, no other field."""
    nodes = [wire.field(1, _node(name, files[name])) for name in sorted(files)]
    nodes += [wire.field(2, _node(name, directories[name])) for name in sorted(directories)]
    return b"".join(nodes)


def _node(name: str, digest: Digest) -> bytes:
    """Return a `FileNode` or a `DirectoryNode`, which are alike here."""
    text, identity = name.encode(), digests.encode(digest)
    return b"\n%b%b\x12%b%b" % (
        wire.varint(len(text)),
        text,
        wire.varint(len(identity)),
        identity,
    )


@dataclass(frozen=True, slots=True)
class _Directory:
    files: Mapping[str, Digest]
    directories: Mapping[str, Digest]


def _parse(tree: Tree, root: Digest) -> _Directory:
    data = tree.blobs.get(root)
    if data is None:
        raise MissingBlob(f"directory {root} is not part of tree {tree.root}")
    if digests.of_bytes(data) != root:
        raise CorruptBlob(f"directory {root}: the bytes have another digest")
    fields = wire.parse(data)
    if 3 in fields:
        raise InvalidPath(f"directory {root}: holds a symlink, which no input or output may be")
    children = _nodes(fields, 1), _nodes(fields, 2)
    names = [name for nodes in children for name, _ in nodes]
    if len(set(names)) != len(names):
        raise InvalidPath(f"directory {root}: a name occurs twice")
    for name in names:
        if "/" in name:
            raise InvalidPath(f"directory {root}: {name[:200]!r} is a path, not a name")
    return _Directory(dict(children[0]), dict(children[1]))


def _nodes(fields: wire.Fields, number: int) -> list[tuple[str, Digest]]:
    nodes = map(wire.parse, wire.messages(fields, number))
    return [(wire.string(node, 1), digests.decode(wire.message(node, 2))) for node in nodes]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0
