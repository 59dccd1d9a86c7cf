from __future__ import annotations

import errno
import pickle

import pytest

from cache.errors import CacheError, CorruptBlob, MissingBlob, StoreUnavailable, said, unavailable


@pytest.mark.parametrize("kind", [CacheError, MissingBlob, CorruptBlob, StoreUnavailable])
def test_errors_travel_between_processes(kind: type[CacheError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", "way out")))  # noqa: S301  our own bytes
    assert type(error) is kind
    assert (str(error), error.hint) == ("what", "way out")
    assert kind("what").hint is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("just fits", "just fits"),
        ("just fits \n", "just fits"),
        ("just fit in", "just fit…"),
        ("just fitting", "just…"),
        ("onewordonly", "onewordo…"),
        ("a\x1b[2Jb", "a [2Jb"),
    ],
)
def test_what_a_server_said_is_cut_between_words(text: str, shown: str) -> None:
    assert said(text, 9) == shown


def test_a_refusal_names_the_file_and_the_way_out() -> None:
    error = unavailable(OSError(errno.ENOSPC, "No space left on device", "/c/v1/tmp/x"), "/c")
    assert str(error) == "/c/v1/tmp/x: No space left on device"
    assert error.hint is not None
    assert "free some space" in error.hint
    assert "OLMILL_CACHE_DIR" in error.hint


def test_a_refusal_outside_the_store_does_not_blame_the_store() -> None:
    error = unavailable(OSError(errno.EROFS, "Read-only file system"), "/dist/x", store=False)
    assert str(error) == "/dist/x: Read-only file system"
    assert error.hint is not None
    assert "OLMILL_CACHE_DIR" not in error.hint


def test_an_unforeseen_refusal_has_a_hint_too() -> None:
    assert unavailable(OSError(), "/c").hint
    assert str(unavailable(OSError(), "/c")) == "/c: OSError"
