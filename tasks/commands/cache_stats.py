"""`doit cache stats`: how much the store holds, of what, and how old that is."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache.errors import CacheError
from cache.local.survey import Survey, survey
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.amounts import age_text, size_text
from tasks.display.table import render
from tasks.graph import message
from tasks.projects import nodes_by_key
from tasks.session import Session

UNKNOWN = "unknown"


class Stats(NodeCommand):
    """`doit cache stats`: how much the store holds, of what, and how old that is."""

    name = "cache stats"
    doc_purpose = "show how much the cache on this machine holds"
    cmd_options: ClassVar[Any] = (JSON,)

    def _execute(self, session: Session, as_json: bool, pos_args: list[str]) -> int:
        if pos_args:
            raise InvalidCommand("`cache stats` is about the whole cache: it takes no tasks")
        store = session.workspace.store
        try:
            found = survey(store.root)
        except CacheError as error:
            raise InvalidCommand(message(error)) from None
        nodes = nodes_by_key([*store.projects(), session.workspace.root])
        kinds = {key: node.partition(":")[0] for key, node in nodes.items()}
        told = statistics(found, kinds, time.time())
        if as_json:
            print(json.dumps({"directory": str(store.root), **told}, indent=2))
        else:
            print(text(str(store.root), told))
        return 0


def statistics(found: Survey, kinds: dict[str, str], now: float) -> dict[str, Any]:
    """Return a store's contents as data: counts, bytes, and seconds since the last use.

    kinds: of nodes, by the sha256 of their keys. A blob of several results counts for each kind
    of them, and once in the sums.
    """
    referenced = {digest for result in found.results.values() for digest in result.outputs or ()}
    free = [digest for digest in found.blobs if digest not in referenced]
    by_kind: dict[str, list[str]] = {}
    for key in found.results:
        by_kind.setdefault(kinds.get(key, UNKNOWN), []).append(key)
    return {
        "results": len(found.results),
        "blobs": len(found.blobs),
        "bytes": found.size,
        "unreferenced": {"blobs": len(free), "bytes": sum(digest.size for digest in free)},
        "corrupt": {"files": len(found.corrupt), "bytes": sum(found.corrupt.values())},
        "kinds": {
            kind: _kind(found, keys, now)
            for kind, keys in sorted(by_kind.items(), key=lambda one: (one[0] == UNKNOWN, one[0]))
        },
    }


def _kind(found: Survey, keys: list[str], now: float) -> dict[str, Any]:
    results = [found.results[key] for key in keys]
    blobs = {digest for result in results for digest in result.outputs or ()}
    ages = [max(0, round(now - result.used_ns / 1e9)) for result in results]
    return {
        "results": len(results),
        "bytes": sum(digest.size for digest in blobs if digest in found.blobs),
        "used_seconds_ago": {"least": min(ages), "most": max(ages)},
    }


def text(directory: str, told: dict[str, Any]) -> str:
    """Return statistics for people."""
    lines: list[tuple[str, ...]] = [("kind", "results", "size", "last used", "longest unused")]
    for kind, of_kind in told["kinds"].items():
        ages = of_kind["used_seconds_ago"]
        least, most = age_text(ages["least"]), age_text(ages["most"])
        size = size_text(of_kind["bytes"])
        lines.append((kind, str(of_kind["results"]), size, f"{least} ago", most))
    sums = f"{directory}: {told['results']} results, {told['blobs']} blobs, "
    shown = [sums + size_text(told["bytes"])]
    if told["kinds"]:
        shown.append(render(lines))
    for name, words in (
        ("unreferenced", "blobs that no result names"),
        ("corrupt", "files put aside as damaged"),
    ):
        count, size = list(told[name].values())
        if count:
            shown.append(f"{count} {words}, {size_text(size)}: doit cache gc removes them")
    return "\n".join(shown)
