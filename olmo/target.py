"""What a target is: the description of one platform that compiling needs.

Apart from the table of targets, so that a new row of it leaves the keys of others as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STATIC = (".tar", ".wasm")  # suffixes of libraries that a program is linked with
MIN_PREFIX = 8  # characters of a symbol prefix: TVM cannot read a shorter one


@dataclass(frozen=True, slots=True)
class Target:
    """One platform.

    `kind` is what lowering sees of it (`olmo.modeling.lowering_target`); `tvm` and `host` are dictionaries
    for `tvm.target.Target`, `host` None where the device is a CPU itself; `suffix` is that of the
    library's file; `archs` the CUDA architectures the library has code for, from the lowest; `opt`
    a level or flags as `olmo.optimization` reads them.
    """

    name: str
    kind: str
    tvm: Mapping[str, Any] = field(hash=False)
    host: Mapping[str, Any] | None = field(hash=False)
    suffix: str
    archs: tuple[str, ...] = ()
    opt: str = "O2"

    @property
    def triple(self) -> str:
        """LLVM's triple of the CPU that runs the library's host code."""
        return str((self.host or self.tvm)["mtriple"])

    @property
    def system_lib(self) -> bool:
        """Whether functions are registered by static linking, instead of looked up by name."""
        return self.suffix in STATIC

    def to_json(self) -> bytes:
        """Return canonical bytes of everything a build of this target depends on.

        The name is not part of it: a target of the same content builds the same library.
        """
        content = {name: value for name, value in asdict(self).items() if name != "name"}
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Target":
        """Return the nameless target of the parsed content that `to_json` writes."""
        return cls(name="", **{**content, "archs": tuple(content["archs"])})


def symbol_prefix(model: str, quantization: str) -> str:
    """Return the prefix of a static library's symbols: `{model}_{quantization}_`.

    An app finds a model by it among others, so a library's own file name does not matter. Of
    letters, digits and `_` only (llm.mlc.ai/docs/deploy/ios.html: `-` becomes `_`).
    """
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{model}_{quantization}_")
    return plain.ljust(MIN_PREFIX, "_")
