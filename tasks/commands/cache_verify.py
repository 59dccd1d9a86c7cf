"""`doit cache verify`: read the whole store, and put aside what is damaged."""

from __future__ import annotations

import json
import sys
from typing import Any, ClassVar

from doit.exceptions import InvalidCommand

from cache.errors import CacheError
from cache.local.survey import survey
from cache.local.verification import Verified, verify
from tasks.commands.node_command import JSON, NodeCommand
from tasks.display.amounts import size_text
from tasks.graph import message
from tasks.projects import nodes_by_key
from tasks.session import Session


class Verify(NodeCommand):
    """`doit cache verify`: hash every blob, check every result."""

    name = "cache verify"
    doc_purpose = "read all of the cache on this machine; what is damaged is put aside and listed"
    doc_description = "Exit code 1 if something was damaged. It will be made or fetched again."
    cmd_options: ClassVar[Any] = (JSON,)

    def _execute(self, session: Session, as_json: bool, pos_args: list[str]) -> int:
        if pos_args:
            raise InvalidCommand("`cache verify` is about the whole cache: it takes no tasks")
        store = session.workspace.store
        try:
            sys.stderr.write(f"reading {size_text(survey(store.root).size)} in {store.root}\n")
            found = verify(store)
        except CacheError as error:
            raise InvalidCommand(message(error)) from None
        nodes = nodes_by_key([*store.projects(), session.workspace.root])
        told = {
            "results": found.results,
            "bytes": found.size,
            "damaged_blobs": [
                {
                    "sha256": digest.hash,
                    "nodes": sorted({nodes.get(key, f"result {key[:12]}") for key in keys}),
                }
                for digest, keys in found.damaged_blobs.items()
            ],
            "damaged_results": [
                {"key": key, "node": nodes.get(key)} for key in found.damaged_results
            ],
            "lacking": [{"key": key, "node": nodes.get(key)} for key in found.lacking],
        }
        print(json.dumps(told, indent=2) if as_json else text(found, told))
        return int(bool(found.damaged_blobs or found.damaged_results))


def text(found: Verified, told: dict[str, Any]) -> str:
    """Return what was found, for people."""
    lines = [
        f"damaged blob {blob['sha256']}, put aside"
        + "".join(f"\n  of {node}" for node in blob["nodes"])
        for blob in told["damaged_blobs"]
    ]
    lines += [
        f"damaged result {result['key']}, removed"
        + (f"\n  of {result['node']}" * bool(result["node"]))
        for result in told["damaged_results"]
    ]
    sums = f"{found.results} results, {size_text(found.size)}: "
    damaged = len(found.damaged_blobs) + len(found.damaged_results)
    if not damaged:
        sums += "all as it was made"
    else:
        sums += f"{len(found.damaged_blobs)} blobs and {len(found.damaged_results)} results damaged"
    if found.lacking:
        sums += f"; {len(found.lacking)} results lack a blob, and are none"
    return "\n".join([*lines, sums])
