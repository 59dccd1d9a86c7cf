import json
from typing import Any

import pytest

from olmo.configuration.conversation import TEMPLATES, Conversation, render, template
from olmo.errors import OlmoError

OWN: dict[str, Any] = {
    "roles": {"user": "[U]", "assistant": "[A]", "tool": "[T]"},
    "seps": [";", "."],
    "role_content_sep": ":",
    "role_empty_sep": "?",
}
TURNS = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", None)]


def own(**changes: Any) -> Conversation:
    return template({**OWN, **changes})


def test_built_in_names() -> None:
    assert sorted(TEMPLATES) == ["LM", "chatml", "olmo", "olmo2"]
    for name in TEMPLATES:
        assert template(name).name == name


@pytest.mark.parametrize("name", TEMPLATES)
def test_json_round_trips(name: str) -> None:
    assert template(json.loads(json.dumps(TEMPLATES[name].to_json()))) == TEMPLATES[name]


def test_keys_have_mlcs_order() -> None:
    assert " ".join(TEMPLATES["LM"].to_json()) == (
        "name system_template system_message system_prefix_token_ids "
        "add_role_after_system_message roles role_templates messages seps role_content_sep "
        "role_empty_sep stop_str stop_token_ids strip_reasoning_in_history function_string "
        "use_function_calling"
    )


def test_olmo_prompt() -> None:
    assert render(TEMPLATES["olmo"], TURNS) == [
        50279,
        "<|user|>\na\n<|assistant|>\nb\n<|user|>\nc\n<|assistant|>\n",
    ]


def test_olmo2_prompt() -> None:
    assert render(TEMPLATES["olmo2"], TURNS[:2]) == [
        100257,
        "<|system|>\n\n<|user|>\na<|endoftext|>\n<|assistant|>\nb<|endoftext|>\n",
    ]


def test_chatml_prompt_with_a_system_message() -> None:
    assert render(TEMPLATES["chatml"], [("system", "Be brief"), *TURNS[2:]]) == [
        "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    ]


def test_plain_prompt_is_the_text() -> None:
    assert render(TEMPLATES["LM"], [("user", "Once"), ("assistant", None)]) == [1, "Once"]
    assert render(TEMPLATES["LM"], []) == [1]


def test_separators_by_role() -> None:
    assert render(own(), TURNS) == ["[U]:a;[A]:b.[U]:c;[A]?"]
    assert render(own(), [("tool", "42")]) == ["[T]:42;"]


def test_role_is_left_out_after_a_system_message() -> None:
    bare = own(system_message="S ", add_role_after_system_message=False)
    assert render(bare, TURNS[:1]) == ["S a;"]
    assert render(own(add_role_after_system_message=False), TURNS[:1]) == ["[U]:a;"]


def test_history_of_the_template_comes_first() -> None:
    few = own(messages=[["user", "x"], ["assistant", "y"]])
    assert render(few, TURNS[2:]) == ["[U]:x;[A]:y.[U]:c;[A]?"]


def test_role_templates() -> None:
    assert render(own(role_templates={"user": "<{user_message}>"}), TURNS[:2]) == ["[U]:<a>;[A]:b."]


def test_reasoning_is_stripped_from_history() -> None:
    turns = [("assistant", "hm\n</think>\n\n4"), ("user", "</think>x")]
    assert render(own(strip_reasoning_in_history=True), turns) == ["[A]:4.[U]:</think>x;"]
    assert render(own(), turns[:1]) == ["[A]:hm\n</think>\n\n4."]


def test_functions_take_the_last_placeholder() -> None:
    turns = [("user", "{function_string}a"), ("user", "b{function_string}")]
    assert render(own(function_string="f()"), turns) == ["[U]:a;[U]:bf();"]


def test_unknown_role() -> None:
    with pytest.raises(OlmoError, match="unknown role 'usr'") as caught:
        render(own(), [("usr", "x")])
    assert caught.value.hint == "did you mean 'user'?"


def test_unknown_name() -> None:
    with pytest.raises(OlmoError, match="unknown conversation template 'olmo1'") as caught:
        template("olmo1")
    assert caught.value.hint == "did you mean 'olmo'?"


def test_unknown_key() -> None:
    with pytest.raises(OlmoError, match="unknown key of conv_template 'rolls'") as caught:
        template({**OWN, "rolls": {}})
    assert caught.value.hint == "did you mean 'roles'?"


@pytest.mark.parametrize("key", ["roles", "seps"])
def test_missing_key(key: str) -> None:
    with pytest.raises(OlmoError, match=f"conv_template: the key '{key}' is missing"):
        template({k: v for k, v in OWN.items() if k != key})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "name must be a string, not 3"),
        ({"system_message": None}, "system_message must be a string, not None"),
        ({"add_role_after_system_message": 1}, "must be true or false, not 1"),
        ({"seps": "x"}, "seps must be a list of one or two strings, not 'x'"),
        ({"seps": []}, "seps must be a list of one or two strings, not []"),
        ({"seps": ["a", "b", "c"]}, "seps must be a list of one or two strings"),
        ({"stop_str": [1]}, "stop_str must be a list of strings, not [1]"),
        ({"stop_token_ids": [-1]}, "stop_token_ids must be a list of token ids, not [-1]"),
        ({"stop_token_ids": [True]}, "stop_token_ids must be a list of token ids"),
        ({"system_prefix_token_ids": 3}, "system_prefix_token_ids must be a list of token ids"),
        ({"messages": [["user"]]}, "messages must be a list of pairs, role and content"),
        ({"roles": []}, "roles must be a table of strings, not []"),
        ({"roles": {"user": "U"}}, "roles: the role 'assistant' is missing"),
        ({"roles": {"user": "U", "assistent": "A"}}, "unknown role of conv_template.roles"),
        ({"role_templates": {"user": "x"}}, "role_templates.user must contain {user_message}"),
        ({"role_templates": {"bot": "x"}}, "unknown role of conv_template.role_templates 'bot'"),
    ],
)
def test_malformed_table(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OlmoError) as caught:
        own(**changes)
    assert message in str(caught.value)
