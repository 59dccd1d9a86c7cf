"""Conversation templates: how messages become a prompt, in MLC's form.

A template is data: the built-in ones are a table, a user's own is a table of the same keys. The
prompt is `system_prefix_token_ids`, the system message, then for each message its role, a separator
and its content.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmo.errors import OlmoError, unknown

# A role and what it says; None is what the model is to say.
Message = tuple[str, str | None]

_PLACEHOLDERS: Mapping[str, str] = {
    "user": "{user_message}",
    "assistant": "{assistant_message}",
    "tool": "{tool_message}",
}
_SYSTEM = "{system_message}"
_FUNCTION = "{function_string}"
_END_OF_REASONING = "</think>"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A template; fields and order of `conv_template` in mlc-chat-config.json.

    `seps` follow messages: one for all, or one after the user's and one after the assistant's.
    """

    name: str | None
    roles: Mapping[str, str] = field(hash=False)
    seps: tuple[str, ...]
    system_template: str = _SYSTEM
    system_message: str = ""
    system_prefix_token_ids: tuple[int, ...] | None = None
    add_role_after_system_message: bool = True
    role_templates: Mapping[str, str] = field(default_factory=lambda: _PLACEHOLDERS, hash=False)
    messages: tuple[Message, ...] = ()
    role_content_sep: str = ""
    role_empty_sep: str = ""
    stop_str: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    strip_reasoning_in_history: bool = False
    function_string: str = ""
    use_function_calling: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the template as JSON values, keys in MLC's order."""
        return {key: _plain(getattr(self, key)) for key in _FORMS}


_ALL = (
    # No roles: the text goes to the model as it is.
    Conversation(
        name="LM",
        roles={"user": "", "assistant": ""},
        seps=("",),
        system_prefix_token_ids=(1,),
        stop_token_ids=(2,),
    ),
    Conversation(
        name="chatml",
        roles={"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
        seps=("<|im_end|>\n",),
        system_template="<|im_start|>system\n{system_message}<|im_end|>\n",
        system_message=(
            "A conversation between a user and an LLM-based AI assistant. "
            "The assistant gives helpful and honest answers."
        ),
        role_content_sep="\n",
        role_empty_sep="\n",
        stop_str=("<|im_end|>",),
        stop_token_ids=(2,),
    ),
    # 50279 is the end of text of OLMo 1's tokenizer, which also opens a conversation.
    Conversation(
        name="olmo",
        roles={"user": "<|user|>", "assistant": "<|assistant|>"},
        seps=("\n",),
        system_prefix_token_ids=(50279,),
        role_content_sep="\n",
        role_empty_sep="\n",
        stop_token_ids=(50279,),
    ),
    # 100257 is that of OLMo 2's.
    Conversation(
        name="olmo2",
        roles={"user": "<|user|>", "assistant": "<|assistant|>"},
        seps=("<|endoftext|>\n",),
        system_template="<|system|>\n{system_message}\n",
        system_prefix_token_ids=(100257,),
        role_content_sep="\n",
        role_empty_sep="\n",
        stop_str=("<|endoftext|>",),
        stop_token_ids=(100257,),
    ),
)

TEMPLATES: Mapping[str, Conversation] = {t.name: t for t in _ALL if t.name is not None}


def template(value: object) -> Conversation:
    """Return the built-in template of this name, or the one that a table of MLC's keys describes.

    A table needs `roles` (at least user and assistant) and `seps`; other keys have MLC's defaults.

    Raises:
        OlmoError: unknown name or key (with a suggestion), a missing key, or a value of the wrong
            form.
    """
    if isinstance(value, str):
        if value not in TEMPLATES:
            raise unknown("conversation template", value, TEMPLATES)
        return TEMPLATES[value]
    if not isinstance(value, Mapping):
        raise OlmoError(f"conv_template must be a name or a table, not {value!r}")
    for key in value:
        if key not in _FORMS:
            raise unknown("key of conv_template", str(key), _FORMS)
    for key in ("roles", "seps"):
        if key not in value:
            raise OlmoError(f"conv_template: the key {key!r} is missing")
    return Conversation(**({"name": None} | {key: _checked(key, value[key]) for key in value}))


def render(conversation: Conversation, messages: Sequence[Message]) -> list[int | str]:
    """Return the prompt as pieces: token ids, and text to be tokenized.

    `messages` follow those of the template. A first message of role "system" replaces the system
    message. A message whose content is None, usually the last one, leaves the reply to the model.

    Raises:
        OlmoError: a role the template does not have.
    """
    said = [*conversation.messages, *messages]
    system_message = conversation.system_message
    if said and said[0][0] == "system":
        system_message = said.pop(0)[1] or ""
    system = conversation.system_template.replace(_SYSTEM, system_message)
    parts = [system]
    for position, (role, content) in enumerate(said):
        if role not in conversation.roles:
            raise unknown("role", role, conversation.roles)
        bare = position == 0 and system != "" and not conversation.add_role_after_system_message
        parts.append(_message(conversation, role, content, bare=bare))
    text = "".join(parts)
    # The last placeholder takes the functions, others vanish.
    text = conversation.function_string.join(text.rsplit(_FUNCTION, 1)).replace(_FUNCTION, "")
    prefix = conversation.system_prefix_token_ids or ()
    return [*prefix, text] if text else [*prefix]


def _message(conversation: Conversation, role: str, content: str | None, *, bare: bool) -> str:
    if content is None:
        return conversation.roles[role] + conversation.role_empty_sep
    if role == "assistant" and conversation.strip_reasoning_in_history:
        content = content.rpartition(_END_OF_REASONING)[2].lstrip("\n")
    start = "" if bare else conversation.roles[role] + conversation.role_content_sep
    said = conversation.role_templates[role].replace(_PLACEHOLDERS[role], content)
    return start + said + conversation.seps[-1 if role == "assistant" else 0]


def _is_strings(value: Any) -> bool:
    return _is_list(value) and all(isinstance(item, str) for item in value)


def _is_ids(value: Any) -> bool:
    return _is_list(value) and all(type(item) is int and item >= 0 for item in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_roles(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _is_message(value: Any) -> bool:
    return (
        _is_list(value)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], str | None)
    )


_TEXT = (lambda value: isinstance(value, str), "a string")
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_STRINGS = (_is_strings, "a list of strings")
_ROLES = (_is_roles, "a table of strings")

# What each key of a table must be; keys in MLC's order.
_FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str | None), "a string"),
    "system_template": _TEXT,
    "system_message": _TEXT,
    "system_prefix_token_ids": (
        lambda value: value is None or _is_ids(value),
        "a list of token ids",
    ),
    "add_role_after_system_message": _FLAG,
    "roles": _ROLES,
    "role_templates": _ROLES,
    "messages": (
        lambda value: _is_list(value) and all(map(_is_message, value)),
        "a list of pairs, role and content",
    ),
    "seps": (
        lambda value: _is_strings(value) and len(value) in {1, 2},
        "a list of one or two strings",
    ),
    "role_content_sep": _TEXT,
    "role_empty_sep": _TEXT,
    "stop_str": _STRINGS,
    "stop_token_ids": (_is_ids, "a list of token ids"),
    "strip_reasoning_in_history": _FLAG,
    "function_string": _TEXT,
    "use_function_calling": _FLAG,
}


def _checked(key: str, value: Any) -> Any:
    """Return the value of a table's key in the form of the field."""
    is_valid, form = _FORMS[key]
    if not is_valid(value):
        raise OlmoError(f"conv_template: {key} must be {form}, not {value!r}")
    if key == "messages":
        return tuple((role, content) for role, content in value)
    if isinstance(value, Mapping):
        return _checked_roles(key, value)
    return tuple(value) if _is_list(value) else value


def _checked_roles(key: str, value: Mapping[str, str]) -> dict[str, str]:
    for role in value:
        if role not in _PLACEHOLDERS:
            raise unknown(f"role of conv_template.{key}", str(role), _PLACEHOLDERS)
    if key == "roles":
        for role in ("user", "assistant"):
            if role not in value:
                raise OlmoError(f"conv_template: roles: the role {role!r} is missing")
        return dict(value)
    for role, text in value.items():
        if _PLACEHOLDERS[role] not in text:
            raise OlmoError(f"conv_template: {key}.{role} must contain {_PLACEHOLDERS[role]}")
    return {**_PLACEHOLDERS, **value}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
