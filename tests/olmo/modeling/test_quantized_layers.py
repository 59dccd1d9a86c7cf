"""What libraries compute with quantized weights.

Every kind, dtype, layout and number of bits is in one of them, though not in every combination: products
of others are in `tests/olmo/compilation/test_cpu_schedule.py`, and `bench/accuracy.py` does it for all.
"""

from pathlib import Path

import numpy as np
import pytest
from tvm import tirx

from olmo.conversion.convert import convert
from olmo.generation.runtime import Engine
from olmo.modeling import canonical_ir
from tests.olmo.conftest import Library
from tests.olmo.conversion.test_awq_conversion import SHAPES, VALUES
from tests.olmo.libraries import (
    GOLDEN,
    PROMPT,
    Built,
    build,
    every_way,
    golden_logits,
    golden_tokens,
)
from tests.olmo.sample_checkpoints import write_single
from tests.olmo.session import verified

# Of the largest logit. All is computed in float32, so there is nothing to allow for narrow dtypes.
TOLERANCE = 1e-4
# Compiled as they are released: other tests have them too.
OPTIMISED = {("pub-b", "q0f32"), ("pub-a", "q0f16"), ("pub-b", "q4f16_1")}


@pytest.mark.parametrize(
    ("checkpoint", "quantization"),
    [
        ("pub-b", "q0f32"),
        ("pub-a", "q0f16"),
        ("pub-b", "q0bf16"),
        ("pub-b", "q3f16_0"),
        ("pub-b", "q4f16_1"),
        ("pub-a", "q4f16_2"),
        ("pub-a", "q4bf16_0"),
        ("pub-b", "q4f32_1"),
        ("pub-b", "e5m2_e5m2_f16"),
        ("pub-b", "e4m3_e4m3_f16"),
    ],
)
def test_logits_are_those_of_the_dequantized_weights(
    built: Library, checkpoint: str, quantization: str
) -> None:
    quick = (checkpoint, quantization) not in OPTIMISED
    check(built(checkpoint, quantization, quick=quick), golden_tokens(checkpoint))


def test_no_function_has_a_buffer_of_float8(built: Library) -> None:
    """Schedules for GPUs would copy it, and TVM convert it on the way."""
    module = canonical_ir.load(built("pub-b", "e4m3_e4m3_f16", quick=True).module)
    functions = [f for _, f in module.functions_items() if isinstance(f, tirx.PrimFunc)]
    assert len(functions) > 10
    assert not [f for f in functions if "float8" in f.script(show_meta=False)]


def test_raw_encoding_keeps_float32_exactly(built: Library, tmp_path: Path) -> None:
    library = built("pub-a", "q0f32")
    chosen, out = library.spec.quantization, tmp_path / "model"
    convert(GOLDEN / "pub-a", library.spec.config, chosen, out, encoding="raw")
    tokens = golden_tokens("pub-a", "float32")
    exact = golden_logits("pub-a", "float32")
    for way, found in every_way(Engine(out, library.library, 2), tokens).items():
        assert np.abs(found - exact).max() < 1e-5, way
    rounded = every_way(library.engine(max_sequences=2), tokens)["batch"]
    assert np.abs(rounded - exact).max() > 1e-3


def test_awq_linears(tmp_path: Path) -> None:
    source = write_single(tmp_path / "source", VALUES, **SHAPES)
    library = build(source, "q4f16_awq", tmp_path, quick=True)
    tokens = [(7 + 11 * n) % library.spec.config.vocab_size for n in range(PROMPT + 4)]
    check(library, tokens)


def check(library: Built, tokens: list[int]) -> None:
    """Hold the logits after the prompt and each later token against the reference."""
    (expected,) = library.reference(tokens)
    expected = expected[PROMPT - 1 :]
    ways = every_way(library.engine(max_sequences=2), tokens)
    for way, found in {**ways, "batch_verify": verified(library, tokens)}.items():
        assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max(), way
