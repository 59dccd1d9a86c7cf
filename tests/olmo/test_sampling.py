"""Choosing tokens: penalties, temperature, nucleus, seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo.errors import OlmoError
from olmo.sampling import Sampling, next_token, penalised

LOGITS = np.array([0.0, 1.0, 3.0, 2.0, -1.0], dtype=np.float32)


def draws(sampling: Sampling, count: int = 2000) -> np.ndarray:
    random = np.random.default_rng(7)
    return np.array([next_token(LOGITS, (), sampling, random) for _ in range(count)])


def test_temperature_zero_takes_the_likeliest() -> None:
    assert set(draws(Sampling(temperature=0.0), 20)) == {2}


def test_draws_follow_the_softmax() -> None:
    weights = np.exp(LOGITS.astype(np.float64))
    share = np.bincount(draws(Sampling()), minlength=5) / 2000
    assert np.abs(share - weights / weights.sum()).max() < 0.04


def test_a_low_temperature_sharpens() -> None:
    assert (draws(Sampling(temperature=0.25)) == 2).mean() > (draws(Sampling()) == 2).mean() + 0.2


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    # shares: token 2 0.64, token 3 0.24, token 1 0.09
    assert set(draws(Sampling(top_p=0.6))) == {2}
    assert set(draws(Sampling(top_p=0.7))) == {2, 3}
    assert set(draws(Sampling(top_p=0.9))) == {1, 2, 3}
    assert set(draws(Sampling(top_p=0.0), 50)) == {2}


def test_a_seed_gives_the_same_draws() -> None:
    assert (draws(Sampling(), 50) == draws(Sampling(), 50)).all()


def test_penalties_touch_what_was_generated_alone() -> None:
    generated = [2, 2, 4]
    found = penalised(LOGITS, generated, Sampling(repetition_penalty=2.0))
    assert found.tolist() == [0.0, 1.0, 1.5, 2.0, -2.0]
    found = penalised(LOGITS, generated, Sampling(presence_penalty=0.5, frequency_penalty=0.25))
    assert found.tolist() == [0.0, 1.0, 2.0, 2.0, -1.75]
    assert penalised(LOGITS, [], Sampling(repetition_penalty=2.0)).tolist() == LOGITS.tolist()


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30),
    temperature=st.floats(0, 3),
    top_p=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_token_is_always_one_of_the_vocabulary(
    logits: list[float], temperature: float, top_p: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    chosen = Sampling(temperature=temperature, top_p=top_p)
    token = next_token(np.array(logits, dtype=np.float32), (), chosen, random)
    assert 0 <= token < len(logits)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 3.0),
        ("frequency_penalty", -3.0),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(OlmoError, match=field):
        Sampling(**{field: value})
