"""From logits to the next token: penalties, temperature, top-p, and a seeded draw.

The order is MLC's: penalties on the logits, then temperature, then the nucleus.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmo.errors import OlmoError

# Below this temperature the likeliest token is taken, as in MLC.
GREEDY = 1e-6


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens; fields and ranges of MLC's generation config.

    `repetition_penalty` divides positive and multiplies negative logits of tokens already there
    (Keskar et al. 2019, arXiv:1909.05858); `presence_penalty` is subtracted once for each of them,
    `frequency_penalty` once for each time.

    Raises:
        OlmoError: a value out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("temperature", 0.0, 100.0),
            ("top_p", 0.0, 1.0),
            ("repetition_penalty", math.ulp(0.0), sys.float_info.max),
            ("presence_penalty", -2.0, 2.0),
            ("frequency_penalty", -2.0, 2.0),
        ):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and low <= value <= high:
                continue
            if name == "repetition_penalty":
                raise OlmoError(f"{name} must be a positive number, not {value!r}")
            raise OlmoError(f"{name} must lie between {low:g} and {high:g}, not {value!r}")


def next_token(
    logits: NDArray[np.float32],
    generated: Sequence[int],
    sampling: Sampling,
    random: np.random.Generator,
) -> int:
    """Choose a token by its logits, [vocab]; `generated` are the tokens the penalties count."""
    scores = penalised(logits, generated, sampling)
    if sampling.temperature < GREEDY:
        return int(scores.argmax())
    scores = (scores - scores.max()) / sampling.temperature
    weights = np.exp(scores)
    order = np.argsort(-weights, kind="stable")
    cumulative = np.cumsum(weights[order])
    # the smallest set whose share reaches top_p, and at least the likeliest token
    kept = 1 + int(np.searchsorted(cumulative, sampling.top_p * cumulative[-1]))
    kept = min(kept, len(order))
    draw = random.random() * cumulative[kept - 1]
    return int(order[min(int(np.searchsorted(cumulative[:kept], draw, side="right")), kept - 1)])


def penalised(
    logits: NDArray[np.float32], generated: Sequence[int], sampling: Sampling
) -> NDArray[np.float64]:
    """Return the logits, [vocab], less the penalties for the tokens `generated` so far."""
    scores = logits.astype(np.float64)
    if not generated:
        return scores
    tokens, times = np.unique(np.asarray(generated), return_counts=True)
    present = scores[tokens]
    penalty = sampling.repetition_penalty
    present = np.where(present > 0, present / penalty, present * penalty)
    present -= sampling.presence_penalty + sampling.frequency_penalty * times
    scores[tokens] = present
    return scores
