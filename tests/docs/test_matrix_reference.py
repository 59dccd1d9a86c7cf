"""docs/matrix.md has every key of a matrix, as the code that reads it declares them.

With OLMILL_UPDATE_GOLDEN=1 the tables of the page are written anew, and the test is skipped.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from olmo import targets
from olmo.configuration import conversation
from tasks.configuration.environment import VARIABLES
from tasks.configuration.matrix import KEYS, TABLES, TARGET_KEYS
from tasks.configuration.mistakes import Key

PAGE = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
MARK = re.compile(r"<!-- keys: (.*?) -->\n+(?:\|.*\n)*")

MEANINGS = {  # of a template's keys, whose forms and defaults are those of olmo.configuration.conversation
    "name": "what chat configurations call it",
    "system_template": "around the system message, `{system_message}`",
    "system_message": "the system message",
    "system_prefix_token_ids": "tokens before everything",
    "add_role_after_system_message": "whether the first message has its role behind a system message",
    "roles": "what stands for `user`, `assistant` and `tool`",
    "role_templates": "around what each role says, `{user_message}` and so on",
    "messages": "a conversation that has already been",
    "seps": "after every message, or after the user's and after the assistant's",
    "role_content_sep": "between a role and what it says",
    "role_empty_sep": "between the assistant's role and its reply",
    "stop_str": "texts that end a reply",
    "stop_token_ids": "tokens that end a reply",
    "strip_reasoning_in_history": "leave out what is before `</think>` in former replies",
    "function_string": "functions that may be called, for `{function_string}`",
    "use_function_calling": "whether they may be",
}


def of_template() -> Mapping[str, Key]:
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(conversation.Conversation)
        if field.default is not dataclasses.MISSING
    }
    words = {"": "empty", None: "none", (): "none", True: "true", False: "false"}
    found = {}
    for name, (_, form) in conversation._FORMS.items():
        default = None if name in ("roles", "seps") else "as it is"
        if name in defaults:
            default = words.get(defaults[name], f"`{defaults[name]}`")  # type: ignore[call-overload]  # a tuple or text
        found[name] = Key(form, MEANINGS[name], "none" if name == "name" else default)
    return found


def table(keys: Mapping[str, Key]) -> str:
    kinds = any(key.of for key in keys.values())
    heading = ["key", "value", "default", *(["only for"] if kinds else []), "meaning"]
    lines = [heading, ["---"] * len(heading)]
    for name, key in keys.items():
        of = [", ".join(key.of)] if kinds else []
        lines.append([f"`{name}`", key.form, key.default or "needed", *of, key.meaning])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_every_key_is_in_the_page() -> None:
    tables = {**TABLES, "conv_template": of_template()}
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(MARK.findall(text)) == sorted(tables)
    written = MARK.sub(lambda m: f"<!-- keys: {m[1]} -->\n\n{table(tables[m[1]])}", text)
    if os.environ.get("OLMILL_UPDATE_GOLDEN") == "1":
        PAGE.write_text(written, encoding="utf-8")
        pytest.skip("docs/matrix.md was written")
    assert text == written, "write it anew: OLMILL_UPDATE_GOLDEN=1 pytest tests/docs"


def test_every_table_has_its_section() -> None:
    headings = set(re.findall(r"^## `\[+(\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == set(KEYS)


def test_options_of_targets_are_those_that_the_code_takes() -> None:
    taken = {name for options in targets._OPTIONS.values() for name in options}
    assert set(TARGET_KEYS) == {"base", *taken, *targets._ANY_KIND}
    kinds = {"llvm": "CPUs", "cuda": "CUDA", "metal": "Metal", "opencl": "OpenCL"}
    for kind, word in kinds.items():
        of_kind = {name for name, key in TARGET_KEYS.items() if word in key.of}
        assert of_kind == set(targets._OPTIONS[kind])


def test_every_variable_is_told() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## The environment\n")[2]
    told = set(re.findall(r"`(OLMILL_[A-Z_]+)`", section.partition("\n## ")[0]))
    assert told == set(VARIABLES)
