import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.errors import OlmoError
from olmo.generation.runtime import Engine
from olmo.verification import reference
from olmo.verification import verify as verification
from olmo.verification.report import accuracy_text
from olmo.verification.verify import verify
from tests.olmo.conftest import Library
from tests.olmo.libraries import Built, model_directory

FUNCTIONS = {"prefill", "decode", "chunked prefill", "batch_prefill", "batch_decode"}


@pytest.fixture
def library(built: Library) -> Built:
    return built("pub-b", "q0f32")


@pytest.fixture
def model(library: Built, tmp_path: Path) -> Path:
    return model_directory(library, tmp_path / "model")


def test_the_report(model: Path, library: Built) -> None:
    report = verify(model, library.library, library.spec.quantization, None)
    assert report == {
        "state": "executed",
        "how": f"on {platform.machine()}",
        "accuracy": {
            "logits_within": 1e-5,
            "logits_of_functions_within": report["accuracy"]["logits_of_functions_within"],
            "same_likeliest_token": True,
        },
        "checks": [],
    }
    errors = report["accuracy"]["logits_of_functions_within"]
    assert set(errors) == FUNCTIONS
    assert set(errors.values()) <= {1e-6, 1e-5}
    assert verify(model, library.library, library.spec.quantization, None) == report
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("checkpoint", "quantization"),
    [
        ("pub-b", "q4f16_1"),
        ("pub-a", "q4f16_2"),
        ("pub-a", "q4f16_0"),
        ("pub-b", "q0bf16"),
        ("pub-a", "q4bf16_0"),
    ],
)
def test_quantized_models_are_held_to_their_own_weights(
    built: Library, tmp_path: Path, checkpoint: str, quantization: str
) -> None:
    # As other tests build them, which share them.
    library = built(checkpoint, quantization, quick=quantization != "q4f16_1")
    report = verify(
        model_directory(library, tmp_path / "model"),
        library.library,
        library.spec.quantization,
        None,
    )
    assert report["accuracy"]["logits_within"] <= 1e-4


def test_questions(model: Path, library: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    class Known:
        def __init__(self, *_paths: Path) -> None: ...

        def reset(self) -> None: ...

        def generate(self, prompt: str, **options: Any) -> list[str]:
            assert options["temperature"] == 0
            return ["Tues", "day "] if "Monday" in prompt else ["No idea"]

    monkeypatch.setattr(verification, "Chat", Known)
    asked = [
        {"question": "What comes after Monday?", "answer": "Tuesday"},
        {"question": "What is 1 + 1?", "answer": "2"},
    ]
    report = verify(model, library.library, library.spec.quantization, asked)
    assert report["accuracy"]["questions"] == {
        "right": 1,
        "total": 2,
        "every": 1,
        "wrong": [{"number": 1, **asked[1], "answered": "No idea"}],
    }
    assert accuracy_text(report).endswith("1/2 right")


def test_questions_are_asked_of_the_model(model: Path, library: Built) -> None:
    report = verify(
        model,
        library.library,
        library.spec.quantization,
        [{"question": "a", "answer": "no such thing"}],
    )
    questions = report["accuracy"]["questions"]
    assert questions["right"] == 0
    assert questions["wrong"][0]["answered"] != "no such thing"


def test_malformed_questions(model: Path, library: Built) -> None:
    with pytest.raises(OlmoError, match="question 0: expected the keys"):
        verify(model, library.library, library.spec.quantization, [{"question": "a"}])


def test_weights_that_are_not_the_references(
    model: Path, library: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that computes from slightly other weights is noticed."""
    original = verification._weights

    def other(*arguments: Any) -> Any:
        weight = original(*arguments)
        return lambda name: weight(name) * (1.01 if name.endswith("0.mlp.down_proj") else 1)

    monkeypatch.setattr(verification, "_weights", other)
    with pytest.raises(OlmoError, match=r"are off by .* of the largest logit, 1e-04 is allowed"):
        verify(model, library.library, library.spec.quantization, None)


def test_states_that_were_rounded_are_noticed(
    model: Path, library: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = reference._layer

    def rounded(*arguments: Any) -> Any:
        return [states.astype(np.float16).astype(np.float64) for states in original(*arguments)]

    monkeypatch.setattr(reference, "_layer", rounded)
    with pytest.raises(OlmoError, match=r"are off by .* of the largest logit, 1e-04 is allowed"):
        verify(model, library.library, library.spec.quantization, None)


def test_weights_that_are_no_numbers(model: Path, library: Built) -> None:
    stored = read_tensor_cache(model).tensors["model.embed_tokens.weight"]
    with stored.file.open("r+b") as file:
        file.seek(stored.offset)
        file.write(np.array([0x7FC0] * 64 * 320, "<u2").tobytes())  # NaN in bfloat16
    with pytest.raises(OlmoError, match="logits that are not numbers"):
        verify(model, library.library, library.spec.quantization, None)


def test_logits_that_are_no_numbers(
    model: Path, library: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Engine.decode

    def spoiled(engine: Engine, sequence: int, token: int) -> np.ndarray:
        logits = original(engine, sequence, token)
        logits[5] = np.nan
        return logits

    monkeypatch.setattr(Engine, "decode", spoiled)
    with pytest.raises(OlmoError, match="logits of decode are off by inf"):
        verify(model, library.library, library.spec.quantization, None)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_batches_fit_the_prefill_chunk(chunk: int) -> None:
    lengths = verification._batch_lengths(24, chunk)
    assert (lengths is None) == (chunk < 3)
    if lengths is not None:
        assert min(lengths) >= 1
        assert sum(lengths) <= chunk
