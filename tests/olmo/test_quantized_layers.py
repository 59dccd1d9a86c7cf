"""Layers whose checkpoints are made here; `test_runtime` has those of the golden checkpoints."""

from pathlib import Path

import numpy as np

from tests.olmo.checkpoints import write_single
from tests.olmo.libraries import PROMPT, build, every_way
from tests.olmo.test_awq_conversion import SHAPES, VALUES


def test_awq_linears(tmp_path: Path) -> None:
    source = write_single(tmp_path / "source", VALUES, **SHAPES)
    library = build(source, "q4f16_awq", tmp_path)
    tokens = [(7 + 11 * n) % library.spec.config.vocab_size for n in range(PROMPT + 4)]
    (expected,) = library.reference(tokens)
    expected = expected[PROMPT - 1 :]
    for way, found in every_way(library.engine(max_sequences=2), tokens).items():
        assert np.abs(found - expected).max() < 2e-2 * np.abs(expected).max(), way
