"""A model of real size through the whole chain: wall time, CPU time and peak memory of each node.

    python bench/real_size.py [--keep DIR]

Writes a synthetic OLMo-1B checkpoint (1.18 B parameters, float32, sharded), builds it with
`source = "local"`, one node in one process at a time, and lets it generate 16 tokens.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 16

MATRIX = """
[models.olmo-1b]
source = "local"
path = "checkpoint"
conv_template = "LM"

[[release]]
models = ["olmo-1b"]
quantizations = ["q4f16_1"]
windows = [2048]
targets = ["linux-x86_64-cpu"]
"""
ROW = "olmo-1b:q4f16_1:2048:linux-x86_64-cpu"
NODES = (
    "download:olmo-1b",
    "convert:olmo-1b:q4f16_1",
    "gen_config:olmo-1b:q4f16_1:2048",
    "lower:olmo-1b:q4f16_1:2048:llvm",
    f"compile:{ROW}",
    f"verify:{ROW}",
    f"package:{ROW}",
)


def measured(name: str, *command: str, environment: dict[str, str]) -> None:
    """Run a command in a process of its own and print what it took."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{name} failed:\n{said}")
    cpu = usage.ru_utime + usage.ru_stime
    print(f"| {name} | {wall:.1f} | {cpu:.1f} | {usage.ru_maxrss / 1024:.0f} |", flush=True)


def main(base: Path) -> None:
    """Build in the directory `base`; what is there already is used."""
    checkpoint = base / "checkpoint"
    if not checkpoint.is_dir():
        writer = str(ROOT / "bench" / "synthetic_olmo.py")
        subprocess.run([sys.executable, writer, str(checkpoint)], check=True)
    (base / "matrix.toml").write_text(MATRIX)
    environment = {
        **os.environ,
        "OLMILL_CACHE_DIR": str(base / "cache"),
        "OLMILL_MATRIX": str(base / "matrix.toml"),
    }
    doit = (sys.executable, "-m", "doit")
    print("| node | wall s | CPU s | peak RSS MiB |\n|---|---|---|---|")
    for node in NODES:
        measured(node, *doit, node, environment=environment)
    measured("all again, nothing to do", *doit, environment=environment)
    dist = ROOT / "dist"
    measured(
        f"chat, {TOKENS} tokens",
        *(sys.executable, "-m", "olmo", "chat", str(dist / "olmo-1b-q4f16_1-ctx2048-MLC")),
        *("--model-lib", str(dist / "libs" / "olmo-1b-q4f16_1-ctx2048-linux-x86_64-cpu.so")),
        *("--prompt", "The", "--temperature", "0", "--max-tokens", str(TOKENS)),
        environment=environment,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="work here and keep it")
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        main(given.keep.resolve())
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(Path(directory))
