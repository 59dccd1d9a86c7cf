"""Models converted and compiled for tests, and the logits they should have."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo.compilation.compile import compile_library
from olmo.configuration.compile_spec import CompileSpec
from olmo.configuration.config import OLMoConfig
from olmo.conversion.convert import convert
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.generation.runtime import Engine
from olmo.modeling.lower import lower
from olmo.quantizations import quantization
from olmo.target import Target
from olmo.targets import target
from olmo.verification import reference
from olmo.verification.dequantized import dequantized

GOLDEN = Path(__file__).parents[1] / "golden"
PROMPT = 37  # tokens of the golden prompt
STEPS = 8  # greedy tokens after it

NATIVE = target("linux-x86_64-cpu")
UNOPTIMISED = replace(NATIVE, tvm={**NATIVE.tvm, "opt-level": 0})  # by LLVM

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Built:
    """A converted model with its library; `module` and `metadata` are what was lowered."""

    spec: CompileSpec
    model_dir: Path
    library: Path
    module: bytes
    metadata: bytes

    def weight(self, name: str) -> NDArray[np.float32]:
        """Return a dequantized weight of the converted model."""
        cache = read_tensor_cache(self.model_dir)
        found = dequantized(cache, self.spec.config, self.spec.quantization, name)
        return found.astype(np.float32)

    def reference(self, *sequences: Sequence[int]) -> list[Logits]:
        """Return numpy's logits after every token of each sequence."""
        dtype = self.spec.quantization.model_dtype
        return list(reference.logits(self.spec.config, self.weight, sequences, dtype))

    def engine(self, max_sequences: int = 1) -> Engine:
        return Engine(self.model_dir, self.library, max_sequences)


def build(
    checkpoint: Path, name: str, out: Path, *, quick: bool = False, **overrides: Any
) -> Built:
    """Convert and compile a checkpoint with the quantization of this name.

    `quick` leaves out LLVM's own optimisation, which takes half of the time: the module and the schedules
    are the same.
    """
    spec = compile_spec(checkpoint, name, **overrides)
    convert(checkpoint, spec.config, spec.quantization, out / "model")
    module, metadata = lower(spec, "llvm")
    work, library = out / "work", out / "library.so"
    work.mkdir(parents=True, exist_ok=True)
    compile_library(module, metadata, UNOPTIMISED if quick else NATIVE, library, work=work)
    (out / "module").write_bytes(module)
    (out / "metadata").write_bytes(metadata)
    return read_built(spec, out)


def device_target(name: str) -> Target:
    """Return a target as `target` does; for a device, host code is not optimised: nobody runs it."""
    chosen = target(name)
    return replace(chosen, host={**chosen.host, "opt-level": 0}) if chosen.host else chosen


def compile_spec(checkpoint: Path, name: str, **overrides: Any) -> CompileSpec:
    raw = json.loads((checkpoint / "config.json").read_bytes())
    config = OLMoConfig.from_huggingface(raw).with_overrides(**overrides)
    return CompileSpec(config, quantization(name), config.vocab_size)


def read_built(spec: CompileSpec, out: Path) -> Built:
    """Return what `build` has made in a directory."""
    module, metadata = ((out / part).read_bytes() for part in ("module", "metadata"))
    return Built(spec, out / "model", out / "library.so", module, metadata)


def model_directory(library: Built, out: Path) -> Path:
    """Make a model directory with chat config and tokenizer, as the chain makes it."""
    shutil.copytree(library.model_dir, out)
    shutil.copy(GOLDEN / "pub-a" / "tokenizer.json", out)
    config = json.loads((GOLDEN / "chat-config" / "pub-b.q4f16_1.LM.512.json").read_bytes()) | {
        "quantization": library.spec.quantization.name,
        "model_config": library.spec.config.to_json(),
    }
    (out / "mlc-chat-config.json").write_text(json.dumps(config))
    return out


def golden_tokens(checkpoint: str, weights: str = "bf16_rounded") -> list[int]:
    """Return the golden prompt and the greedy tokens after it but for the last."""
    prompt = np.load(GOLDEN / checkpoint / "logits.npz")["prompt"]
    return [*prompt.tolist(), *golden_logits(checkpoint, weights).argmax(axis=1)[:-1].tolist()]


def golden_logits(checkpoint: str, weights: str = "bf16_rounded") -> Logits:
    """Return the logits after the prompt and each greedy token but the last, [9, vocab].

    `weights` is "bf16_rounded" or "float32", as they are in the checkpoint.
    """
    return np.asarray(np.load(GOLDEN / checkpoint / "logits.npz")[weights])


def every_way(engine: Engine, tokens: Sequence[int]) -> dict[str, Logits]:
    """Return the logits after the prompt and each later token, computed in every way there is.

    `engine` is open for two sequences; the other one of a batch has other tokens and another length.
    """
    prompt, rest = tokens[:PROMPT], tokens[PROMPT:]
    found = {"prefill and decode": [engine.prefill(0, prompt)]}
    found["prefill and decode"] += [engine.decode(0, token) for token in rest]
    engine.reset()
    for piece in (prompt[:5], prompt[5:22], prompt[22:-1]):
        engine.prefill(0, piece)
    found["chunked prefill"] = [engine.prefill(0, prompt[-1:])]
    found["chunked prefill"] += [engine.prefill(0, [token]) for token in rest]
    engine.reset()
    other = prompt[:19][::-1]
    found["batch"] = [engine.batch_prefill({7: other, 4: prompt})[1]]
    for step, token in enumerate(rest):
        found["batch"].append(engine.batch_decode({7: other[step], 4: token})[1])
    engine.reset()
    return {name: np.stack(rows) for name, rows in found.items()}
