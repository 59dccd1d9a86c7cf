"""Verify libraries for WebAssembly where they run: on the CPU in Node, on WebGPU in Chromium."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from olmo.errors import OlmoError
from olmo.quantization import Quantization
from olmo.verification.emulator import place
from olmo.verification.report import Report, checked, executed
from olmo.verification.verify import ANSWER_TOKENS, graded, measure, questions_of
from olmo.wasm.engine import Program, WebEngine
from olmo.wasm.packages import JS, chromium, node

LIMIT = 900.0  # seconds that a program may take; a browser compiles shaders for minutes
# As `olmo.verification.verify.TOLERANCE`, of a GPU computing in float32: its functions are less exact
# than a CPU's, WGSL allows exp an error of 3 + 2 |x| ulp.
GPU_TOLERANCE = 1e-3
ASKED = 20  # questions in a browser, without a GPU a second each


def verify_on_cpu(
    model_dir: Path, library: Path, quantization: Quantization, checks: Sequence[str]
) -> Report:
    """Return the report on a library for the CPU, run by Node; `checks` were done already.

    Raises:
        OlmoError: Node or its packages are missing, a program fails or takes too long, or the
            logits are not those of the model.
    """
    command: list[str | Path] = [_found(node(), "node"), JS / "node.mjs", place("web")]
    with WebEngine(command, model_dir, library, 2, limit=LIMIT) as engine:
        accuracy = measure(engine, model_dir, library, quantization)
    return executed("in Node, by @mlc-ai/web-runtime", accuracy, checks)


def verify_on_webgpu(
    model_dir: Path,
    library: Path,
    quantization: Quantization,
    questions: Sequence[Mapping[str, str]] | None,
    checks: Sequence[str],
) -> Report:
    """Return the report on a library for WebGPU, run by Chromium without a GPU.

    Its logits are measured, and web-llm answers up to 20 of the questions. Without a GPU Chromium
    has no 16-bit floats: a library that computes with them is checked, not executed.

    Raises:
        OlmoError: as `verify_on_cpu`, or a question is malformed.
    """
    if quantization.model_dtype != "float32":
        return checked("16-bit floats need a GPU", checks)
    command: list[str | Path] = [_found(node(), "node"), JS / "browser.mjs"]
    command += [place("web"), _found(chromium(), "chromium")]
    # web-llm runs one sequence at a time, and so does this.
    with WebEngine(command, model_dir, library, 1, limit=LIMIT) as engine:
        accuracy = measure(engine, model_dir, library, quantization, GPU_TOLERANCE, together=False)
    if questions:
        every = -(-len(questions) // ASKED)
        asked = questions[::every]
        accuracy["questions"] = graded(asked, _ask(command, model_dir, library, asked), every)
    return executed("in Chromium on WebGPU, by @mlc-ai/web-llm", accuracy, checks)


def _ask(
    command: Sequence[str | Path],
    model_dir: Path,
    library: Path,
    questions: Sequence[Mapping[str, str]],
) -> list[str]:
    program = Program(command, LIMIT)
    try:
        places = str(library.absolute()), str(model_dir.absolute())
        answers: list[str] = program.call("ask", *places, questions_of(questions), ANSWER_TOKENS)
    finally:
        program.end()
    return answers


def _found(program: str | None, name: str) -> str:
    if program is None:
        raise OlmoError(f"{name} is not installed", f"sudo apt-get install {name}")
    return program
