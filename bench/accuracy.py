"""Accuracy of every quantization: weights, logits of every function, and answers of olmo-tiny.

    python bench/accuracy.py

Prints the two tables of docs/quantization.md. The first has bits per parameter of OLMo-1B and
OLMo-7B, the mean error of olmo-tiny's weights in percent of their mean magnitude, and how many of
its questions the converted and compiled model answers. The second has, for two checkpoints of
random weights and each function, the largest distance of a logit from the numpy reference on the
dequantized weights, as a share of the largest logit.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from olmo import embedded  # noqa: E402  (after the path is set)
from olmo.checkpoints.checkpoint import open_checkpoint  # noqa: E402  (as above)
from olmo.configuration import chat_config  # noqa: E402  (after the path is set)
from olmo.configuration.config import OLMoConfig  # noqa: E402  (as above)
from olmo.configuration.presets import PRESETS  # noqa: E402  (as above)
from olmo.conversion.convert import convert  # noqa: E402  (as above)
from olmo.conversion.tensor_cache import stored_bytes  # noqa: E402  (as above)
from olmo.generation.chat import Chat  # noqa: E402  (as above)
from olmo.json_file import read_json  # noqa: E402  (as above)
from olmo.quantization import Quantization  # noqa: E402  (as above)
from olmo.quantizations import QUANTIZATIONS  # noqa: E402  (as above)
from olmo.verification.verify import ask  # noqa: E402  (as above)
from olmo.weights import parameters, weights  # noqa: E402  (as above)
from tests.olmo.libraries import (  # noqa: E402  (as above)
    GOLDEN,
    PROMPT,
    Built,
    build,
    every_way,
    golden_tokens,
)
from tests.olmo.session import verified  # noqa: E402  (as above)

TINY = "olmo-tiny"
CHECKPOINTS = ("pub-a", "pub-b")
FUNCTIONS = (
    "prefill",
    "decode",
    "chunked prefill",
    "batch_prefill",
    "batch_decode",
    "batch_verify",
)


def bits_per_parameter(preset: str, q: Quantization) -> str:
    """Return the bits of one parameter of a public model, logical ones as manifests count them."""
    config = OLMoConfig.from_huggingface(dict(PRESETS[preset]))
    nbytes = sum(stored_bytes(parameter, "raw") for parameter in parameters(config, q))
    return f"{8 * nbytes / sum(math.prod(weight.shape) for weight in weights(config)):.3f}"


def mean_magnitude(source: Path, config: OLMoConfig) -> float:
    """Return the mean magnitude of a checkpoint's weights."""
    total, count = 0.0, 0
    with open_checkpoint(source, config) as tensors:
        for tensor in tensors.values():
            out = np.empty(tensor.shape, np.float32)
            total += float(np.abs(tensor.read_rows(0, tensor.shape[0], out)).sum(dtype=np.float64))
            count += out.size
    return total / count


def tiny(q: Quantization, work: Path) -> tuple[str, str]:
    """Return the mean error of olmo-tiny's weights, and its right answers."""
    source = embedded.path(TINY)
    built = build(source, q.name, work)
    config = built.spec.config
    report = convert(source, config, q, work / "again")
    sizes = {weight.name: math.prod(weight.shape) for weight in weights(config)}
    error = sum(weight.mean_error * sizes[weight.name] for weight in report.weights)
    relative = error / sum(sizes.values()) / mean_magnitude(source, config)
    generation, template = source / "generation_config.json", embedded.conv_template(TINY)
    raw = read_json(source / "config.json")
    made = chat_config.generate(raw, read_json(generation), source, q.name, template)
    chat_config.write(made, source, built.model_dir, {})
    questions = json.loads((source / "questions.json").read_bytes())
    wrong = ask(Chat(built.model_dir, built.library), questions)
    return f"{100 * relative:.3g} %", f"{len(questions) - len(wrong)}/{len(questions)}"


def errors(built: Built, checkpoint: str) -> Mapping[str, float]:
    """Return the largest relative error of each function."""
    tokens = golden_tokens(checkpoint)
    (wanted,) = built.reference(tokens)
    wanted = wanted[PROMPT - 1 :]
    ways = every_way(built.engine(max_sequences=2), tokens)

    def error(found: np.ndarray, expected: np.ndarray) -> float:
        return float(np.abs(found - expected).max() / np.abs(wanted).max())

    alone, batch = ways["prefill and decode"], ways["batch"]
    return {
        "prefill": error(alone[:1], wanted[:1]),
        "decode": error(alone[1:], wanted[1:]),
        "chunked prefill": error(ways["chunked prefill"], wanted),
        "batch_prefill": error(batch[:1], wanted[:1]),
        "batch_decode": error(batch[1:], wanted[1:]),
        "batch_verify": error(verified(built, tokens), wanted),
    }


def rows_of_logits() -> Iterator[str]:
    """Yield a row for each quantization of weights that are floating-point, and each checkpoint."""
    for q in QUANTIZATIONS.values():
        for checkpoint in CHECKPOINTS if q.supported and q.kind != "awq" else ():
            with tempfile.TemporaryDirectory() as work:
                found = errors(build(GOLDEN / checkpoint, q.name, Path(work)), checkpoint)
            cells = (f"{found[function]:.1e}" for function in FUNCTIONS)
            yield f"| {q.name} | {checkpoint} | {' | '.join(cells)} |"


def rows_of_weights() -> Iterator[str]:
    """Yield a row for each quantization that can be built."""
    for q in QUANTIZATIONS.values():
        if q.supported:
            sizes = [bits_per_parameter(preset, q) for preset in ("OLMo-1B-hf", "OLMo-7B-hf")]
            found = ("-", "-")
            if q.kind != "awq":
                with tempfile.TemporaryDirectory() as work:
                    found = tiny(q, Path(work))
            yield f"| {q.name} | {' | '.join((*sizes, *found))} |"


def main() -> None:
    """Print both tables."""
    print(
        "| quantization | OLMo-1B | OLMo-7B | error of weights | right answers |\n|---|---|---|---|---|"
    )
    for row in rows_of_weights():
        print(row, flush=True)
    print(
        f"\n| quantization | checkpoint | {' | '.join(FUNCTIONS)} |\n|---|---|{'---|' * len(FUNCTIONS)}"
    )
    for row in rows_of_logits():
        print(row, flush=True)


if __name__ == "__main__":
    main()
