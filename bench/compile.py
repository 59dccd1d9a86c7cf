"""How long libraries take: OLMo-1B (1.18 billion parameters) in q4f16_1, for every target.

    python bench/compile.py [TARGET …]

Each target in a process of its own, without and with what other windows have made already: CPU
seconds of lowering, of a first library, of a second one for another window, programs that were run
(nvcc, the linkers) included; and the library's size. Imports are not counted: a build has them once.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthetic_olmo import CONFIG, END_OF_TEXT

from olmo.compilation.compile import compile_library
from olmo.configuration.compile_spec import CompileSpec
from olmo.configuration.config import OLMoConfig
from olmo.modeling.lower import lower
from olmo.quantizations import quantization
from olmo.target import symbol_prefix
from olmo.targets import TARGETS, target
from olmo.wasm.runtime import build_runtime

WINDOWS = (2048, 1024)
NATIVE = Path(__file__).resolve().parents[1] / "olmo" / "wasm" / "native"


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Run `work`; return its CPU seconds, those of its children included, and its result."""
    before = os.times()
    made = work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), made


def measure(name: str) -> None:
    """Print one row of the table."""
    chosen = target(name)
    config = OLMoConfig.from_huggingface(CONFIG)
    prefix = symbol_prefix("olmo-1b", "q4f16_1") if chosen.suffix == ".tar" else None
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        runtime = None
        if chosen.suffix == ".wasm":
            runtime = Path(place, "runtime")
            runtime.mkdir()
            build_runtime(NATIVE, runtime, Path(place))
        for window in WINDOWS:
            spec = CompileSpec(
                config.with_overrides(context_window_size=window),
                quantization("q4f16_1"),
                END_OF_TEXT + 1,
            )
            lowering, lowered = cpu(lambda spec=spec: lower(spec, chosen.kind))
            work = Path(place, str(window))
            work.mkdir()
            output = work / f"library{chosen.suffix}"

            def build(lowered: Any = lowered, output: Path = output, work: Path = work) -> None:
                compile_library(*lowered, chosen, output, prefix, runtime, work=work)

            compiling, _ = cpu(build)
            seconds += [lowering, compiling]
        size = output.stat().st_size / (1 << 20)
    first, second, _, again = seconds
    print(f"| {name} | {first:.1f} | {second:.1f} | {again:.1f} | {size:.1f} |", flush=True)


def main(names: list[str]) -> None:
    """Measure each target in a process of its own."""
    if len(names) == 1:
        measure(names[0])
        return
    print(
        "| target | lower | compile | compile, another window | MiB |\n|---|---|---|---|---|",
        flush=True,
    )
    for name in names or list(TARGETS):
        subprocess.run([sys.executable, __file__, name], check=True, env=os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
