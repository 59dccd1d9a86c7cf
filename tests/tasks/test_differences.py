"""What changed, in words."""

import json

from tasks.differences import differences


def said(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [one.text for one in differences(old, new)]


def test_values_are_shown_where_they_are_short() -> None:
    assert said({"tool t": "0.26"}, {"tool t": "0.27"}) == ["tool t 0.26 → 0.27"]
    assert said({"parameter p": "1"}, {"parameter p": "2" * 41}) == ["parameter p changed"]
    assert said({"parameter p": "1"}, {"parameter p": "a\nb"}) == ["parameter p changed"]


def test_files_are_not() -> None:
    assert said({"input a": "1", "code b": "2"}, {"input a": "2", "code b": "3"}) == [
        "code b changed",
        "input a changed",
    ]


def test_what_comes_and_goes() -> None:
    assert said({"input a": "1", "tool x": "1"}, {"input b": "1", "parameter p": "1"}) == [
        "input a removed",
        "input b added",
        "parameter p added",
        "tool x removed",
    ]


def test_members_of_objects() -> None:
    old = {"tvm": {"kind": "llvm", "mcpu": "x86-64-v2"}, "opt": "O2", "gone": 1}
    new = {"tvm": {"kind": "llvm", "mcpu": "x86-64"}, "opt": "O3", "new": 1}
    texts = said({"parameter target": json.dumps(old)}, {"parameter target": json.dumps(new)})
    assert texts == [
        "parameter target.gone removed",
        "parameter target.new added",
        "parameter target.opt O2 → O3",
        "parameter target.tvm.mcpu x86-64-v2 → x86-64",
    ]


def test_an_object_of_another_name_is_another() -> None:
    old, new = json.dumps({"name": "LM", "x": 1}), json.dumps({"name": "olmo", "x": 2})
    assert said({"parameter t": old}, {"parameter t": new}) == ["parameter t LM → olmo"]
    assert said({"parameter t": old}, {"parameter t": "null"}) == [
        'parameter t {"name": "LM", "x": 1} → null'
    ]


def test_text_that_looks_like_an_object_is_text() -> None:
    assert said({"parameter t": "{a}"}, {"parameter t": "{b}"}) == ["parameter t {a} → {b}"]


def test_many_files_are_counted() -> None:
    old = {f"input {n}": "1" for n in range(9)}
    assert said(old, dict.fromkeys(old, "2")) == [
        "input 0 changed",
        "input 1 changed",
        "input 2 changed",
        "input 3 and 5 more changed",
    ]


def test_what_is_unknown_is_left_out() -> None:
    assert differences({"input a": "1"}, {}, {"input a"}) == []
