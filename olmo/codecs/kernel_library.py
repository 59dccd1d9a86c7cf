"""The kernels of conversion, compiled to a library that depends on nothing but the C library.

One library serves every machine of an architecture: it is made for a processor of a given level,
never for the one that builds it, and the same sources always give the same bytes.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from olmo.codecs.codec_kernels import kernels
from olmo.errors import unknown
from olmo.toolchains.link import link

# Kernels are right only where a product and a sum are two roundings, so without fused operations.
HOSTS: Mapping[str, Mapping[str, Any]] = {
    "linux-x86_64": {
        "kind": "llvm",
        "mtriple": "x86_64-unknown-linux-gnu",
        "mcpu": "x86-64-v3",
        "mattr": ["-fma"],
    },
    # ARMv8-A always has fused operations, but there is nothing in the kernels that they would fit.
    "linux-aarch64": {
        "kind": "llvm",
        "mtriple": "aarch64-unknown-linux-gnu",
        "mcpu": "generic",
        "mattr": ["+neon"],
    },
}


def build_kernels(host: str, output: Path, work: Path) -> None:
    """Compile the kernels for machines of the kind `host` into the shared library `output`.

    `work` is an existing scratch directory.

    Raises:
        OlmoError: no such host (with a suggestion), or the linker is missing or fails.
    """
    objects = work / "kernels.o"
    compiled(host).write_to_file(str(objects), "o")
    link([objects], output, str(HOSTS[host]["mtriple"]), work)


def compiled(host: str) -> Any:
    """Return TVM's module of the kernels for machines of the kind `host`.

    Raises:
        OlmoError: no such host (with a suggestion).
    """
    if host not in HOSTS:
        raise unknown("host of kernels", host, HOSTS)
    target = tvm.target.Target(dict(HOSTS[host]))
    with tvm.transform.PassContext(opt_level=3):
        module = tirx.transform.BindTarget(target)(kernels())
        for step in (
            tirx.transform.FlattenBuffer(),
            tirx.transform.LowerIntrin(),
        ):
            module = step(module)
        return tvm.get_global_func("target.build.llvm")(module, target)
