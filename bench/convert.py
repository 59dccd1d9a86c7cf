"""Conversion against its floor: read the source once, md5 the output on one core, write it.

    python bench/convert.py [--keep DIR] [--rounds 3]

Synthetic OLMo-1B checkpoints (1.18 B parameters) in float32 and bfloat16. Each conversion is a
process of its own, start and imports included, beside its floor in the same minute; the table has
medians. Needs 12 GB of disk, and memory to keep a source in the page cache.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOST = "linux-x86_64"
SOURCES = ("float32", "bfloat16")
QUANTIZATIONS = ("q4f16_1", "q0f16", "q4f32_1")
TOGETHER = ("q4f16_1", "q4f16_0", "q4f16_2", "q4f32_1", "q4bf16_1")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Run:
    """One measured process."""

    wall: float
    cpu: float
    rss: float  # MiB


def measured(*arguments: str) -> Run:
    """Run a part of this script in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *arguments], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} failed")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(runs: Sequence[Run], part: Callable[[Run], float]) -> float:
    """Return the median of one figure."""
    return statistics.median(part(run) for run in runs)


def read(source: Path) -> None:
    """Read every byte of a checkpoint's weights."""
    buffer = bytearray(CHUNK)
    for path in sorted(source.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def floor(source: Path, out: Path, nbytes: int) -> None:
    """Do what no conversion can leave out, one after the other."""
    read(source)
    data = os.urandom(CHUNK)
    checksum = hashlib.md5(usedforsecurity=False)
    with (out / "floor").open("xb", buffering=0) as file:
        for start in range(0, nbytes, CHUNK):
            piece = memoryview(data)[: nbytes - start]
            checksum.update(piece)
            file.write(piece)


def convert(source: Path, out: Path, kernels: Path, names: Sequence[str]) -> None:
    """Convert to some quantizations in one pass."""
    from olmo.configuration.config import OLMoConfig  # noqa: PLC0415  part of what is measured
    from olmo.conversion.convert import convert_all  # noqa: PLC0415  as above
    from olmo.conversion.weight_output import Output  # noqa: PLC0415  as above
    from olmo.quantizations import QUANTIZATIONS as ALL  # noqa: PLC0415  as above

    config = OLMoConfig.from_huggingface(json.loads((source / "config.json").read_bytes()))
    convert_all(source, config, [Output(ALL[q], out / q) for q in names], kernels=kernels)


def pair(base: Path, dtype: str, names: Sequence[str]) -> tuple[Run, Run]:
    """Measure one conversion and its floor, beginning with nothing of either on the disk."""
    source, out = base / dtype, base / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    made = measured("--convert", str(source), str(out), str(base / "kernels"), ",".join(names))
    nbytes = sum(path.stat().st_size for path in out.rglob("*.bin"))
    shutil.rmtree(out)
    out.mkdir()
    least = measured("--floor", str(source), str(out), str(nbytes))
    shutil.rmtree(out)
    return made, least


def table(base: Path, rounds: int) -> None:
    """Print everything."""
    header = "source | quantization | floor s | s | of floor | CPU s | of its floor | peak MiB"
    print(f"| {header} |\n|{'---|' * (header.count('|') + 1)}", flush=True)
    costs: dict[Sequence[str], tuple[float, float]] = {}
    for dtype in SOURCES:
        read(base / dtype)
        for names in [*((q,) for q in QUANTIZATIONS), TOGETHER]:
            runs = [pair(base, dtype, names) for _ in range(rounds)]
            made, least = [a for a, _ in runs], [b for _, b in runs]
            ratio = statistics.median(a.wall / b.wall for a, b in runs)
            cpu_ratio = statistics.median(a.cpu / b.cpu for a, b in runs)
            walls = (median(least, lambda r: r.wall), median(made, lambda r: r.wall))
            cpu, rss = median(made, lambda r: r.cpu), max(r.rss for r in made)
            figures = f"{walls[0]:.2f} | {walls[1]:.2f} | {ratio:.2f} | {cpu:.1f}"
            print(f"| {dtype} | {' + '.join(names)} | {figures} | {cpu_ratio:.2f} | {rss:.0f} |")
            sys.stdout.flush()
            costs[names] = (walls[1], cpu)
        (wall, cpu), (five_wall, five_cpu) = costs["q4f16_1",], costs[TOGETHER]
        ratios = f"{five_wall / wall:.2f} times the time, {five_cpu / cpu:.2f} times the CPU"
        print(f"\n{dtype}: five in one pass take {ratios} of q4f16_1 alone\n")


def prepare(base: Path) -> None:
    """Make the checkpoints and the kernels that are not there."""
    for dtype in SOURCES:
        if not (base / dtype).is_dir():
            writer = str(ROOT / "bench" / "synthetic_olmo.py")
            arguments = (str(base / dtype), "--dtype", dtype)
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, writer, *arguments], check=True, env=environment)
    shutil.rmtree(base / "kernels", ignore_errors=True)
    (base / "kernels").mkdir()
    measured("--kernels", str(base / "kernels"))


def build_kernels(directory: Path) -> None:
    """Compile the kernels."""
    from olmo.codecs.codec import file_name  # noqa: PLC0415  only in the process that compiles
    from olmo.codecs.kernel_library import build_kernels  # noqa: PLC0415  imports tvm

    with tempfile.TemporaryDirectory() as work:
        build_kernels(HOST, directory / file_name(HOST), Path(work))


def main() -> None:
    """Run from the command line."""
    sys.path.insert(0, str(ROOT))
    part, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if part == "--floor":
        floor(Path(rest[0]), Path(rest[1]), int(rest[2]))
    elif part == "--convert":
        convert(Path(rest[0]), Path(rest[1]), Path(rest[2]), rest[3].split(","))
    elif part == "--kernels":
        build_kernels(Path(rest[0]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--keep", type=Path, help="work here and keep the checkpoints")
        parser.add_argument("--rounds", type=int, default=3)
        options = parser.parse_args()
        with tempfile.TemporaryDirectory() as temporary:
            base = (options.keep or Path(temporary)).resolve()
            base.mkdir(parents=True, exist_ok=True)
            prepare(base)
            table(base, options.rounds)


if __name__ == "__main__":
    main()
