import pickle

from olmo.errors import OlmoError, unknown


def test_error_is_one_line_with_a_hint() -> None:
    error = OlmoError("config.json: broken", "repair it")
    assert str(error) == "config.json: broken"
    assert error.hint == "repair it"


def test_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(OlmoError("message", "hint")))  # noqa: S301  our own bytes
    assert (str(error), error.hint) == ("message", "hint")


def test_unknown_suggests_the_closest_name() -> None:
    error = unknown("quantization", "q4f16-1", ["q0f16", "q4f16_1"])
    assert str(error) == "unknown quantization 'q4f16-1'"
    assert error.hint == "did you mean 'q4f16_1'?"


def test_unknown_lists_what_is_known_where_nothing_is_close() -> None:
    assert unknown("thing", "zzz", ["alpha", "beta"]).hint == "known: alpha, beta"
