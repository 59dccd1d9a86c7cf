"""Verify a library by running it: its logits against numpy, and the model's own questions."""

import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from olmo.configuration.config import OLMoConfig
from olmo.conversion.tensor_cache_reader import TensorCache, read_tensor_cache
from olmo.errors import OlmoError
from olmo.generation.chat import CHAT_CONFIG, Chat
from olmo.generation.runtime import Engine
from olmo.json_file import read_json
from olmo.quantization import Quantization
from olmo.verification import reference
from olmo.verification.dequantized import dequantized
from olmo.verification.memory import check_memory
from olmo.verification.report import Report, bound, executed

PROMPT_TOKENS = 24
DECODED_TOKENS = 6
# Largest error of a logit of a right library for CPUs, relative to the largest logit. It is the same
# for every quantization: between what `embed` returns, which the reference rounds likewise, and the
# logits all is float32, whatever the model dtype, and weights are those that are stored. What
# remains is float32's rounding (6e-8) of sums in another order, made larger where attention's
# scores are large. Seen in all quantizations: at most 9e-7 in olmo-tiny, 3e-5 in a model with large
# scores (docs/quantization.md). Rounding the states to float16 after each layer, which is no part
# of a right library, moves the logits of these by 3e-4 and 3e-3.
TOLERANCE = 1e-4

ANSWER_TOKENS = 32  # of an answer at most

Logits = NDArray[np.float64]


class LogitsEngine(Protocol):
    """What runs a library, wherever that is; see `olmo.generation.runtime.Engine`."""

    @property
    def prefill_chunk_size(self) -> int:
        """Tokens of one prefill at most."""

    def length(self, sequence: int) -> int:
        """Return the number of tokens in the cache."""

    def reset(self) -> None:
        """Forget every sequence."""

    def prefill(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the last logits."""

    def decode(self, sequence: int, token: int) -> NDArray[np.float32]:
        """Return the logits."""

    def batch_prefill(self, prompts: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Return the last logits of each sequence."""

    def batch_decode(self, tokens: Mapping[int, int]) -> NDArray[np.float32]:
        """Return the logits of each sequence."""


def verify(
    model_dir: Path,
    library: Path,
    quantization: Quantization,
    questions: Sequence[Mapping[str, str]] | None,
) -> Report:
    """Return the report on the library with the weights and configuration of `model_dir`.

    Raises:
        OlmoError: the files do not belong together, a question is malformed, there is too little
            memory, or the logits are further from the reference than the arithmetic explains.
    """
    config = OLMoConfig.from_json(read_json(model_dir / CHAT_CONFIG)["model_config"])
    check_memory(config, quantization)
    # The engine is gone when the conversation loads the weights for itself.
    accuracy = measure(Engine(model_dir, library, 2), model_dir, library, quantization)
    if questions is not None:
        chat = Chat(model_dir, library)
        answers = [_answer(chat, question) for question in questions_of(questions)]
        accuracy["questions"] = graded(questions, answers)
    return executed(_how(config), accuracy)


def measure(
    engine: LogitsEngine,
    model_dir: Path,
    library: Path,
    quantization: Quantization,
    tolerance: float = TOLERANCE,
    *,
    together: bool = True,
) -> dict[str, Any]:
    """Return the accuracy of the logits of an engine.

    `tolerance` is the largest error of a right library, relative to the largest logit. With
    `together` the engine is open for two sequences, and they are run together as well.

    Raises:
        OlmoError: the logits are further from the reference than that.
    """
    config = read_json(model_dir / CHAT_CONFIG)
    errors, agree = _compare_logits(engine, model_dir, config, quantization, together=together)
    worst = max(errors.values())
    if not worst <= tolerance:
        function = max(errors, key=lambda name: errors[name])
        raise OlmoError(
            f"{library}: logits of {function} are off by {worst:.1e} of the largest logit, "
            f"{tolerance:.0e} is allowed"
        )
    return {
        "logits_within": bound(worst),
        "logits_of_functions_within": {name: bound(error) for name, error in errors.items()},
        "same_likeliest_token": agree,
    }


def _how(config: OLMoConfig) -> str:
    several = f", {config.devices} devices as threads" if config.devices > 1 else ""
    return f"on {platform.machine()}{several}"


def questions_of(questions: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what a model is asked.

    Raises:
        OlmoError: a question is not a table of "question" and "answer".
    """
    for number, item in enumerate(questions):
        if not isinstance(item, Mapping) or set(item) != {"question", "answer"}:
            raise OlmoError(f"question {number}: expected the keys 'question' and 'answer'")
    return [item["question"] for item in questions]


def graded(
    questions: Sequence[Mapping[str, str]], answers: Sequence[str], every: int = 1
) -> dict[str, Any]:
    """Return how many questions were answered right, and those answered otherwise.

    The questions are each `every`-th of the model's, from the first; wrong answers have the number
    that their question has among all.
    """
    wrong = [
        {"number": number * every, **item, "answered": answer.strip()}
        for number, (item, answer) in enumerate(zip(questions, answers, strict=True))
        if answer.strip() != item["answer"].strip()
    ]
    right = len(questions) - len(wrong)
    return {"right": right, "total": len(questions), "every": every, "wrong": wrong}


def _answer(chat: Chat, question: str) -> str:
    """Return the answer in a conversation of its own."""
    chat.reset()
    return "".join(chat.generate(question, temperature=0.0, max_tokens=ANSWER_TOKENS))


def _compare_logits(
    engine: LogitsEngine,
    model_dir: Path,
    config: Mapping[str, Any],
    quantization: Quantization,
    *,
    together: bool,
) -> tuple[dict[str, float], bool]:
    """Return the largest relative error by function, and whether all argmaxes agree."""
    model = OLMoConfig.from_json(config["model_config"])
    first, second = _texts(config["active_vocab_size"], config["context_window_size"])
    weights = _weights(read_tensor_cache(model_dir), quantization, model)
    expected = reference.logits(model, weights, [first, second], quantization.model_dtype)
    if not all(np.isfinite(logits).all() for logits in expected):
        raise OlmoError(f"{model_dir}: the weights give logits that are not numbers")
    scale = max(float(np.abs(logits).max()) for logits in expected) or 1.0
    errors: dict[str, float] = {}
    agree = True
    for function, found, wanted in _runs(engine, first, second, expected, together=together):
        error = _distance(found, wanted) / scale
        errors[function] = max(errors.get(function, 0.0), error)
        agree &= _same_choice(found, wanted, error * scale)
    return errors, agree


def _runs(
    engine: LogitsEngine,
    first: list[int],
    second: list[int],
    expected: Sequence[Logits],
    *,
    together: bool,
) -> list[tuple[str, NDArray[np.float32], Logits]]:
    """Run every function; each result with the logits it should have, [vocab]."""
    one, two = expected
    split = len(first) - DECODED_TOKENS
    found = [("prefill", engine.prefill(0, first[:split]), one[split - 1])]
    found += [("decode", engine.decode(0, first[n]), one[n]) for n in range(split, len(first))]
    engine.reset()
    middle = split // 2
    engine.prefill(0, first[:middle])
    found.append(("chunked prefill", engine.prefill(0, first[middle:split]), one[split - 1]))
    if not together:
        return found
    engine.reset()
    begun = _batch_lengths(split, engine.prefill_chunk_size)
    if begun is not None:
        rows = engine.batch_prefill({0: first[: begun[0]], 1: second[: begun[1]]})
        found += [("batch_prefill", rows[i], (one, two)[i][begun[i] - 1]) for i in (0, 1)]
    for sequence, text in enumerate((first, second)):
        if engine.length(sequence) < split:
            engine.prefill(sequence, text[engine.length(sequence) : split])
    for n in range(split, len(first)):
        rows = engine.batch_decode({0: first[n], 1: second[n]})
        found += [("batch_decode", rows[0], one[n]), ("batch_decode", rows[1], two[n])]
    return found


def _batch_lengths(split: int, chunk: int) -> tuple[int, int] | None:
    """Return two different lengths that fit one prefill chunk; None for a chunk of 1 or 2."""
    return (min(split, chunk - chunk // 3), min(split // 2, chunk // 3)) if chunk > 2 else None


def _distance(found: NDArray[np.float32], wanted: Logits) -> float:
    """Return the largest difference; infinity if a logit is not a number."""
    if not np.isfinite(found).all():
        return math.inf
    return float(np.abs(found - wanted).max())


def _same_choice(found: NDArray[np.float32], wanted: Logits, error: float) -> bool:
    """Whether both prefer the same token, or two whose logits are nearer than the error."""
    return bool(wanted.max() - wanted[int(found.argmax())] <= 2 * error)


def _texts(vocabulary: int, window: int) -> tuple[list[int], list[int]]:
    """Return two texts of one length: token ids spread over the vocabulary."""
    length = min(PROMPT_TOKENS + DECODED_TOKENS, window)
    if length <= DECODED_TOKENS + 1:
        raise OlmoError(
            f"a context window of {window} tokens is too small to verify", "8 tokens at least"
        )
    step = max(1, vocabulary * 618 // 1000)
    return (
        [(7 + n * step) % vocabulary for n in range(length)],
        [(3 + n * (step + 1)) % vocabulary for n in range(length)],
    )


def _weights(
    cache: TensorCache, quantization: Quantization, config: OLMoConfig
) -> reference.WeightSource:
    """Return what gives the dequantized weight [out, in] of a matrix of the model."""
    return lambda matrix: dequantized(cache, config, quantization, matrix)
