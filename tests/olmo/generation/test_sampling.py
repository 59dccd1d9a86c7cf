from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.errors import OlmoError
from olmo.generation.sampling import Sampling, next_token, penalised

LOGITS = np.array([2.0, -1.0, 3.0, 0.5, 2.9], np.float32)


def counts(sampling: Sampling, logits: np.ndarray = LOGITS, draws: int = 4000) -> np.ndarray:
    random = np.random.default_rng(0)
    drawn = [next_token(logits, [], sampling, random) for _ in range(draws)]
    return np.bincount(drawn, minlength=len(logits)) / draws


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) / temperature)
    return weights / weights.sum()


def test_temperature_0_takes_the_likeliest() -> None:
    assert counts(Sampling(temperature=0.0), draws=10)[2] == 1
    tied = np.array([1, 5, 5], np.float32)
    assert counts(Sampling(temperature=0.0), tied, draws=10)[1] == 1  # the first of equals


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    found = counts(Sampling(temperature=temperature))
    assert np.abs(found - softmax(LOGITS, temperature)).max() < 0.03


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    share = softmax(LOGITS)
    order = np.argsort(-share)
    two = share[order[:2]].sum()
    for top_p, kept in ((0.0, 1), (share[order[0]] - 1e-9, 1), (two - 1e-6, 2), (two + 1e-6, 3)):
        found = counts(Sampling(top_p=top_p))
        assert set(found.nonzero()[0]) == set(order[:kept]), top_p
        assert (
            np.abs(found[order[:kept]] - share[order[:kept]] / share[order[:kept]].sum()).max()
            < 0.03
        )


def test_one_seed_gives_one_sequence() -> None:
    def drawn(seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        return [next_token(LOGITS, [], Sampling(), random) for _ in range(30)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_penalties() -> None:
    found = penalised(
        LOGITS,
        [0, 1, 1, 0, 0],
        Sampling(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25),
    )
    assert found.tolist() == pytest.approx(
        [2.0 / 2 - 0.5 - 3 * 0.25, -1.0 * 2 - 0.5 - 2 * 0.25, 3.0, 0.5, 2.9]
    )
    assert penalised(LOGITS, [], Sampling(repetition_penalty=2.0)).tolist() == LOGITS.tolist()


def test_a_penalty_changes_the_choice() -> None:
    greedy = Sampling(temperature=0.0, repetition_penalty=1.5)
    random = np.random.default_rng(0)
    assert next_token(LOGITS, [], greedy, random) == 2
    assert next_token(LOGITS, [2], greedy, random) == 4
    assert next_token(LOGITS, [2, 4], greedy, random) in {0, 2}


@given(
    logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    temperature=st.floats(0, 100),
    top_p=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_every_draw_is_a_token(
    logits: list[float], temperature: float, top_p: float, seed: int
) -> None:
    array = np.array(logits, np.float32)
    chosen = Sampling(temperature=temperature, top_p=top_p)
    token = next_token(array, [0], chosen, np.random.default_rng(seed))
    assert 0 <= token < len(array)
    if temperature < 1e-6:
        assert array[token] == array.max()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 1.1),
        ("top_p", -0.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("nan")),
        ("repetition_penalty", float("inf")),
        ("temperature", "hot"),
        ("top_p", None),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
    ],
)
def test_values_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(OlmoError, match=name):
        Sampling(**{name: value})
