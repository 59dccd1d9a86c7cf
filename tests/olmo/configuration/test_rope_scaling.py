import pytest

from olmo.configuration.rope_scaling import normalised_scaling
from olmo.errors import OlmoError

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}


def test_the_kind_comes_first_and_keys_are_sorted() -> None:
    given = {"truncate": False, "beta_slow": 2, "type": "yarn", "rope_theta": 1e4, "mscale": None}
    found = normalised_scaling(
        {**given, "factor": 4, "original_max_position_embeddings": 2048}, "x"
    )
    assert found is not None
    assert list(found.items()) == [
        ("rope_type", "yarn"),
        ("beta_slow", 2),
        ("factor", 4),
        ("original_max_position_embeddings", 2048),
        ("truncate", False),
    ]


def test_no_scaling() -> None:
    assert normalised_scaling({"rope_type": "default", "rope_theta": 1e4}, "x") is None
    assert normalised_scaling({"rope_theta": 1e4}, "x") is None


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        (
            {**YARN, "beta_fats": 32},
            "unknown key of 'yarn' scaling 'beta_fats'",
            "did you mean 'beta_fast'?",
        ),
        ({**YARN, "truncate": 1}, "truncate must be true or false, not 1", None),
        ({**YARN, "beta_slow": 64}, "beta_slow 64 is not below beta_fast 32.0", None),
        ({**YARN, "factor": True}, "factor must be a positive number, not True", None),
        (
            {**LLAMA3, "high_freq_factor": 1.0},
            "low_freq_factor 1.0 is not below high_freq_factor 1.0",
            None,
        ),
        (
            {"rope_type": "yarn", "factor": 4.0},
            "'yarn' scaling needs the field 'original_max_position_embeddings'",
            None,
        ),
        (
            {"rope_type": "dynamic", "factor": 2.0},
            "'dynamic' scaling cannot be computed: its angles change with the length of the text",
            "supported: linear, llama3, yarn",
        ),
        (
            {"rope_type": "longrope", "long_factor": [1.0]},
            "'longrope' scaling cannot be computed: its angles change with the length of the text",
            "supported: linear, llama3, yarn",
        ),
        ({"rope_type": ["yarn"]}, "rope_type must be a name, not ['yarn']", None),
    ],
)
def test_refusals(table: dict[str, object], message: str, hint: str | None) -> None:
    with pytest.raises(OlmoError) as caught:
        normalised_scaling(table, "config.json: rope_scaling")
    assert str(caught.value) == f"config.json: rope_scaling: {message}"
    if hint is not None:
        assert caught.value.hint == hint
