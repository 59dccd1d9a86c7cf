"""Sizes and ages as people type them."""

import pytest

from tasks.display.amounts import age_text, parse_age, parse_size, size_text
from tasks.errors import BuildError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500000B", 500_000),
        ("7B", 7),
        ("20GiB", 20 << 30),
        ("1.5 TiB", 3 << 39),
        ("500MB", 500_000_000),
        ("2kB", 2000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (258_973, "253 KiB"), (3 << 41, "6.0 TiB")],
)
def test_texts_of_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("90 min", 5400), ("1.5w", 907_200)]
)
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "20", "GiB", "-1GiB", "1gib", "1.GiB", "1e9", "٣GiB", "20 Gi B", "nan"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(BuildError, match="not a size") as caught:
        parse_size(text)
    assert "20GiB" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1month", "30m"])
def test_no_ages(text: str) -> None:
    with pytest.raises(BuildError, match="not an age") as caught:
        parse_age(text)
    assert "30d" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (86_400 * 400, "400 d")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
