"""Prefill and decode of a library beside llama.cpp's Q4_0 of the same weights, turn by turn.

    python bench/decode.py MODEL_DIR LIBRARY [--threads 2] [--rounds 7] [--prompt 32] [--tokens 16]
                           [--llama PYTHON GGUF]

PYTHON is an interpreter with llama-cpp-python 0.3.36 (it builds from source; keep it in an
environment of its own), GGUF what `PYTHON bench/decode_llama.py make CHECKPOINT GGUF` wrote. Each side
is a process of its own with as many threads; in every round each prefills a prompt and decodes
tokens, one side after the other, and numpy reads as many bytes as a token has to. Printed are
medians, ratios of medians, and CPU seconds, which other work on the machine disturbs least.
"""

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

Seconds = tuple[float, float]  # wall, CPU


class Side:
    """A process that prefills and decodes when told to."""

    def __init__(self, command: list[str], processors: set[int]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, processors),  # noqa: PLW1509 - no threads yet
        )

    def run(self, command: str, count: int) -> Seconds:
        """Run one command and return what it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, count, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        if not answer:
            sys.exit(f"{' '.join(self._process.args)} failed")  # type: ignore[arg-type] # a list of str
        wall, cpu = map(float, answer)
        return wall, cpu


def serve(model_dir: Path, library: Path) -> None:
    """Answer the commands of a `Side` with the library."""
    from olmo.generation.runtime import Engine  # noqa: PLC0415 - the measuring process does without tvm

    engine = Engine(model_dir, library)
    for line in sys.stdin:
        command, count = line.split()
        wall, cpu = time.perf_counter(), time.process_time()
        if command == "prefill":
            engine.reset()
            engine.prefill(0, list(range(100, 100 + int(count))))
        else:
            for _ in range(int(count)):
                engine.decode(0, 5)
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def read(parts: list[np.ndarray]) -> Seconds:
    """Read every byte once, one thread for each part."""
    wall, cpu = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=np.max, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--llama", nargs=2, metavar=("PYTHON", "GGUF"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.model, given.library)
        return
    processors = set(sorted(os.sched_getaffinity(0))[: given.threads])
    own = [sys.executable, __file__, str(given.model), str(given.library), "--serve"]
    sides = {"olmill": Side(own, processors)}
    if given.llama:
        python, gguf = given.llama
        peer = str(Path(__file__).with_name("decode_llama.py"))
        sides["llama.cpp"] = Side([python, peer, "serve", gguf, str(given.threads)], processors)
    else:
        print("llama.cpp is not measured: --llama says where it is")
    nbytes = sum(path.stat().st_size for path in given.model.glob("params_shard_*.bin"))
    parts = np.array_split(np.ones(nbytes // 4, np.int32), given.threads)
    took: dict[tuple[str, str], list[Seconds]] = {}
    for _ in range(given.rounds):
        for command, count in (("prefill", given.prompt), ("decode", given.tokens)):
            for name, side in sides.items():
                wall, cpu = side.run(command, count)
                each = count if command == "decode" else 1
                took.setdefault((command, name), []).append((wall / each, cpu / each))
        took.setdefault(("decode", "reading the weights"), []).append(read(parts))
    print(f"{given.threads} threads, {given.rounds} rounds, {nbytes / 1e6:.0f} MB of weights\n")
    print("| | | ms | of llama.cpp | CPU ms | of llama.cpp | GB/s |\n|---|---|---|---|---|---|---|")
    for (command, name), seconds in took.items():
        wall, cpu = (statistics.median(values) for values in zip(*seconds, strict=True))
        ratios = ["", ""]
        if (command, "llama.cpp") in took:
            peers = zip(*took[command, "llama.cpp"], strict=True)
            ratios = [
                f"{mine / statistics.median(values):.2f}"
                for mine, values in zip((wall, cpu), peers, strict=True)
            ]
        rate = f"{nbytes / wall / 1e9:.1f}" if command == "decode" else ""
        what = f"prefill of {given.prompt}" if command == "prefill" else "decode of a token"
        cells = (what, name, f"{1e3 * wall:.1f}", ratios[0], f"{1e3 * cpu:.1f}", ratios[1], rate)
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
