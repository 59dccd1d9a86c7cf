"""`doit cache gc`: make the store smaller, beside builds that use it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache.errors import CacheError
from cache.local.collection import Doomed, Limits, collect
from cache.local.survey import survey
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.amounts import age_text, parse_age, parse_size, size_text
from tasks.display.table import render
from tasks.errors import BuildError
from tasks.graph import message
from tasks.projects import needs, nodes_by_key
from tasks.session import Session


class Gc(NodeCommand):
    """`doit cache gc`: remove what was not used for longest, and what is of no use at all."""

    name = "cache gc"
    doc_purpose = "remove from the cache on this machine what no project and no running build needs"
    doc_description = (
        "What the receipts of projects name stays, and what running builds use. Of the rest, results "
        "that were not used for longest go until the limits hold, and blobs that no result names. "
        "Without limits only those go, and damaged files."
    )
    cmd_options: ClassVar[Any] = (
        {
            "name": "max_size",
            "long": "max-size",
            "type": str,
            "default": None,
            "help": "leave at most so much, such as 20GiB",
        },
        {
            "name": "max_age",
            "long": "max-age",
            "type": str,
            "default": None,
            "help": "leave nothing that no build has used for so long, such as 30d",
        },
        {
            "name": "dry_run",
            "long": "dry-run",
            "type": bool,
            "default": False,
            "help": "only say what would go",
        },
        JSON,
    )

    def _execute(
        self,
        session: Session,
        max_size: str | None,
        max_age: str | None,
        dry_run: bool,
        as_json: bool,
        pos_args: list[str],
    ) -> int:
        if pos_args:
            raise InvalidCommand("`cache gc` is about the whole cache: it takes no tasks")
        store = session.workspace.store
        # A project built before there were registrations is known from its own directory.
        store.register(session.workspace.root)
        now_ns = time.time_ns()
        try:
            limits = Limits(
                None if max_size is None else parse_size(max_size),
                None if max_age is None else parse_age(max_age),
            )
            gone = collect(store.root, needs, limits, now_ns, dry_run=dry_run)
            left = survey(store.root).size
        except (BuildError, CacheError) as error:
            raise InvalidCommand(message(error)) from None
        if dry_run:
            left -= gone.size - sum(gone.corrupt.values())
        nodes = nodes_by_key(store.projects())
        results = [
            {
                "key": key,
                "node": nodes.get(key),
                "bytes": sum(digest.size for digest in result.outputs or ()),
                "unused_seconds": max(0, round((now_ns - result.used_ns) / 1e9)),
            }
            for key, result in sorted(gone.results.items(), key=lambda item: item[1].used_ns)
        ]
        told = {"results": results, "blobs": len(gone.blobs), "bytes": gone.size, "left": left}
        if as_json:
            print(json.dumps({"dry_run": dry_run, **told}, indent=2))
        else:
            print(text(gone, results, left, dry_run=dry_run))
            if limits.size is not None and left > limits.size:
                sys.stderr.write(
                    f"{size_text(left)} are more than {max_size}: projects or running builds need "
                    "them (doit clean, or remove projects)\n"
                )
        return 0


def text(gone: Doomed, results: list[dict[str, Any]], left: int, *, dry_run: bool) -> str:
    """Return what went, or would go, for people."""
    lines: list[tuple[str, ...]] = [
        (
            result["key"][:12],
            result["node"] or "unknown",
            size_text(result["bytes"]),
            f"unused for {age_text(result['unused_seconds'])}",
        )
        for result in results
    ]
    words = "would be removed" if dry_run else "removed"
    damaged = f", {len(gone.corrupt)} damaged files" if gone.corrupt else ""
    stay = "would stay" if dry_run else "stay"
    sums = (
        f"{words}: {len(results)} results, {len(gone.blobs)} blobs{damaged}, "
        f"{size_text(gone.size)}; {size_text(left)} {stay}"
    )
    return "\n".join([render(lines), sums] if lines else [sums])
