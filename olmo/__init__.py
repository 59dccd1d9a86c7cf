"""OLMo as MLC LLM runs it: configuration, weights, conversion, compilation and generation."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from olmo.generation.chat import Chat

__all__ = ["Chat"]


def __getattr__(name: str) -> Any:
    """Import `Chat` when it is asked for: it brings tvm along.

    By name, or chat and all it imports would be part of every action's code.
    """
    if name == "Chat":
        return importlib.import_module("olmo.generation.chat").Chat
    raise AttributeError(f"module 'olmo' has no attribute {name!r}")
