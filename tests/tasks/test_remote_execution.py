"""What a worker tells in the last line of what it writes."""

import pytest

from tasks.remote_execution import _told


def test_what_an_action_tells() -> None:
    text = b'noise\n{"error": "wrong", "hint": "mend it", "warnings": ["slow"]}\n'
    assert _told(text) == {"error": "wrong", "hint": "mend it", "warnings": ["slow"]}
    assert _told(b"") == {}


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"\xff",
        b"[" * 100_000,
        b"[1]",
        b"1" * 5000,
        b'{"error": 1, "hint": ["a"], "warnings": 3, "more": "a"}',
        b'{"error": null, "hint": null, "warnings": {"a": 1}}',
    ],
)
def test_anything_else_tells_nothing(line: bytes) -> None:
    assert _told(line) == {}
