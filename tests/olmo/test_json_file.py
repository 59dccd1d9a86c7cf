from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.json_file import parse_json, read_json


def test_reads_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{\n\n]", "x: not JSON: Expecting property name enclosed in double quotes at line 3"),
        (b'{"a": 1, "a": 2}', "x: the key 'a' occurs twice"),
        (b"[NaN]", "x: NaN is not JSON"),
        (b"[-Infinity]", "x: -Infinity is not JSON"),
        (b'"\xff"', "x: not UTF-8 at byte 1"),
        (b"[" * 100_000, "x: JSON nested too deeply"),
        (b"1" * 5000, "x: holds an integer that is too long"),
    ],
)
def test_refuses_what_is_not_json(data: bytes, message: str) -> None:
    with pytest.raises(OlmoError) as caught:
        parse_json(data, "x")
    assert str(caught.value) == message


def test_names_the_absent_file(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")


def test_names_the_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match=r": Is a directory"):
        read_json(tmp_path)
