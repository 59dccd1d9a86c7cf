import subprocess
from pathlib import Path

import pytest

from olmo.toolchains.zig import zig
from olmo.wasm.native import NATIVE
from olmo.wasm.packages import node

EXPORTS = ("malloc", "free", "calloc", "realloc", "aligned_alloc")
# What the allocator takes from the C library.
LIBRARY = """
#include <stddef.h>
int *__errno_location(void) { static int e; return &e; }
void *memset(void *to, int byte, size_t n) { char *p = to; while (n--) *p++ = byte; return to; }
void *memcpy(void *to, const void *from, size_t n) {
  char *p = to; const char *q = from; while (n--) *p++ = *q++; return to;
}
"""


@pytest.mark.skipif(node() is None, reason="node is not installed")
def test_blocks_keep_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "library.c").write_text(LIBRARY)
    objects = []
    for source in (NATIVE / "allocator.c", tmp_path / "library.c"):
        objects.append(tmp_path / f"{source.stem}.o")
        flags = ["-target", "wasm32-wasi", "-O2", "-fno-builtin", "-c", "-o", objects[-1], source]
        zig("cc", flags, tmp_path)
    module = tmp_path / "allocator.wasm"
    exports = [f"--export={name}" for name in EXPORTS]
    undefined = "--allow-undefined"  # errno is a thread's, and there is one
    zig("wasm-ld", ["--no-entry", undefined, *exports, "-o", module, *objects], tmp_path)
    program = Path(__file__).with_name("allocate.mjs")
    done = subprocess.run(
        [str(node()), program, module], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
