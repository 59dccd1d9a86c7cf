import json

import pytest

from olmo.quantization import Quantization
from olmo.quantizations import QUANTIZATIONS

BUILDABLE = [q for q in QUANTIZATIONS.values() if q.supported]


@pytest.mark.parametrize("q", BUILDABLE, ids=lambda q: q.name)
def test_json(q: Quantization) -> None:
    assert Quantization.from_json(json.loads(json.dumps(q.to_json()))) == q


@pytest.mark.parametrize(
    ("name", "k", "groups", "words"),
    [
        ("q4f16_1", 64, 2, 8),
        ("q4f16_1", 65, 3, 12),
        ("q4f16_1", 1, 1, 4),
        ("q3f16_1", 64, 2, 8),
        ("q3f16_1", 80, 2, 8),
        ("q3f16_1", 81, 3, 12),
    ],
)
def test_groups_and_words_round_up(name: str, k: int, groups: int, words: int) -> None:
    q = QUANTIZATIONS[name]
    assert (q.groups(k), q.words(k)) == (groups, words)
