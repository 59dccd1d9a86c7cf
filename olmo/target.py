"""What a target is: the description of one platform that compiling needs.

Apart from the table of targets, so that a new row of it leaves the keys of others as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """One platform.

    `tvm` and `host` are dictionaries for `tvm.target.Target`; `suffix` is that of the library's
    file; `zig_target` the triple zig links for; `system_lib` whether symbols are registered by
    static linking instead of being loaded from a shared library.
    """

    name: str
    kind: str
    tvm: Mapping[str, Any] = field(hash=False)
    host: Mapping[str, Any] | None = field(hash=False)
    suffix: str
    zig_target: str
    system_lib: bool = False

    def to_json(self) -> bytes:
        """Return canonical bytes of everything a build of this target depends on.

        The name is not part of it: a target of the same content builds the same library.
        """
        content = {
            "host": None if self.host is None else dict(self.host),
            "kind": self.kind,
            "suffix": self.suffix,
            "system_lib": self.system_lib,
            "tvm": dict(self.tvm),
            "zig_target": self.zig_target,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Target":
        """Return the nameless target of the parsed content that `to_json` writes."""
        return cls(name="", **content)
